"""Consent over sockets: who is added, who is invited, and what one person may do in a day."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from protocol import bodies
from protocol.bodies import Settings, TimelineEvent
from protocol.codec import CODECS, Codec
from protocol.commands import Accept, Add, Create, Decline, Invite, Send
from protocol.dialog_types import DialogType, Mode
from protocol.events import DialogState
from protocol.ids import created_dialog_id, direct_dialog_id, new_id, self_dialog_id
from protocol.limits import INVITATIONS_BY_ONE_MAX
from protocol.replies import Acked, Failed
from server.config.settings import RateSettings
from storage.identity_rows import WhoMayAdd
from tests.support.clock import ManualClock
from tests.support.harness import Running, Wire, configured, running
from tests.support.world import Person

pytestmark = pytest.mark.anyio

CAPS = RateSettings(direct_dialogs_per_person_per_day=2, dialogs_per_person_per_day=3, additions_per_person_per_day=4)


@pytest.fixture
async def capped(database_url: str, clock: ManualClock) -> AsyncIterator[Running]:
    """A node with small daily caps, whose clock the test moves."""
    async with running(database_url, configured(limits=CAPS), clock) as node:
        yield node


async def strangers(server: Running, count: int) -> list[Person]:
    """People who let only those add them whom they know, with a `self` dialog each."""
    people = await server.world.people(count)
    for person in people:
        await server.world.chooses(person, WhoMayAdd.KNOWN)
        await server.world.create(DialogType.SELF, person)
    return people


async def begin(wire: Wire, number: int, *members: Person, kind: DialogType = DialogType.CHANNEL) -> Acked | Failed:
    """Try to create a dialog; the request and its `n` have this number."""
    reply = await wire.ask(Create(number, number, kind, [member.principal for member in members], "news"))
    assert isinstance(reply, Acked | Failed)
    return reply


def code(reply: Acked | Failed) -> str:
    """The code of a refusal; empty if there was none."""
    return reply.code if isinstance(reply, Failed) else ""


@pytest.mark.parametrize("codec", CODECS.values(), ids=lambda codec: codec.subprotocol)
async def test_a_stranger_is_invited_instead_of_added_and_accepts(server: Running, codec: Codec) -> None:
    ann, bo = await strangers(server, 2)
    async with server.live(ann, codec) as a, server.live(bo, codec) as b:
        assert code(await begin(a, 10, bo)) == "consent_required"
        channel = (await a.ask(Create(11, 11, DialogType.CHANNEL, [], "news"))).dialog
        assert (await a.ask(Add(12, channel, 12, [bo.principal]))).code == "consent_required"
        acked = await a.ask(Invite(13, channel, 13, bo.principal))
        assert (acked.dialog, acked.seq, acked.messages) == (self_dialog_id(bo.principal), 0, 0)
        happened = await b.until(TimelineEvent)
        assert happened.body == bodies.Invited(channel, ann.principal, DialogType.CHANNEL, "news")
        async with server.live(bo, codec) as later:
            states = {state.dialog: state for state in later.caught_up if isinstance(state, DialogState)}
            own = states[self_dialog_id(bo.principal)]
            assert (own.invitations, own.invited_by) == ([happened.body], [(ann.device, 13)])
            assert isinstance(await later.ask(Accept(20, channel, 20)), Acked)
            assert (await later.until(DialogState)).dialog == channel


async def test_a_declined_invitation_cannot_be_accepted(server: Running) -> None:
    ann, bo = await strangers(server, 2)
    channel = await server.world.create(DialogType.CHANNEL, ann)
    async with server.live(ann) as a, server.live(bo) as b:
        await a.ask(Invite(3, channel, 10, bo.principal))
        assert isinstance(await b.ask(Decline(3, channel, 10)), Acked)
        assert (await b.ask(Accept(4, channel, 11))).code == "dialog_not_found"


async def test_an_answer_in_a_direct_dialog_is_consent(server: Running) -> None:
    ann, bo = await strangers(server, 2)
    async with server.live(ann) as a, server.live(bo) as b:
        direct = (await a.ask(Create(10, 10, DialogType.DIRECT, [bo.principal], mode=Mode.OPEN))).dialog
        assert code(await begin(a, 11, bo)) == "consent_required"
        await b.ask(Send(10, direct, 10, b"hello"))
        assert code(await begin(a, 12, bo)) == ""


async def test_the_open_invitations_of_one_person_are_bounded(server: Running) -> None:
    ann, bo = await strangers(server, 2)
    channels = [await server.world.create(DialogType.CHANNEL, ann) for _ in range(INVITATIONS_BY_ONE_MAX + 1)]
    async with server.live(ann) as a:
        replies = [await a.ask(Invite(n, channel, n, bo.principal)) for n, channel in enumerate(channels, 100)]
        assert [code(reply) for reply in replies] == [""] * INVITATIONS_BY_ONE_MAX + ["invitations_bound"]


async def test_a_person_cannot_be_in_more_dialogs_than_is_set(server: Running) -> None:
    (ann,) = await strangers(server, 1)
    await server.world.pool.execute("UPDATE deployment SET dialogs_per_person_max = 2")
    async with server.live(ann) as a:
        assert [code(await begin(a, n)) for n in (10, 11)] == ["", "dialogs_bound"]


async def test_one_device_cannot_put_people_into_channels_without_end(server: Running) -> None:
    """The attack: one victim and a new channel with each command."""
    eve, bo = await strangers(server, 2)
    async with server.live(eve) as e:
        replies = [code(await begin(e, n, bo)) for n in range(10, 30)]
        assert set(replies) == {"consent_required"}
    (row,) = await server.world.timelines.read_dialogs(bo.principal, [self_dialog_id(bo.principal)])
    assert (row.state.member_count, row.state.seq) == (1, 1)
    assert await server.world.pool.fetchval("SELECT count(*) FROM members WHERE principal_id = $1", bo.principal) == 1


async def test_a_day_has_a_bounded_number_of_direct_dialogs(capped: Running, clock: ManualClock) -> None:
    eve, *people = await capped.world.people(5)
    direct = DialogType.DIRECT
    async with capped.live(eve) as e:
        assert [code(await begin(e, n, people[n], kind=direct)) for n in (1, 2, 3)] == ["", "", "daily_limit"]
    another_device = Person(eve.principal)
    await capped.world.another_sign_in(another_device)
    async with capped.live(another_device) as e:
        refused = await begin(e, 4, people[3], kind=direct)
        assert isinstance(refused, Failed)
        assert refused.code == "daily_limit"
        assert refused.retry_after_s == pytest.approx(43_200, rel=0.01)
        there = await begin(e, 5, people[1], kind=direct)
        assert isinstance(there, Acked)
        assert there.dialog == direct_dialog_id(eve.principal, people[1].principal)
        clock.advance(43_201)
    await capped.world.pool.execute("UPDATE sign_ins SET expires_at_ms = NULL")
    async with capped.live(another_device) as e:
        assert code(await begin(e, 6, people[3], kind=direct)) == ""


async def test_a_day_has_a_bounded_number_of_new_dialogs_and_of_additions(capped: Running) -> None:
    ann, bo, *people = await capped.world.people(8)
    for person in (bo, people[5]):
        await capped.world.create(DialogType.SELF, person)
    async with capped.live(ann) as a:
        assert code(await begin(a, 10, *people[:2])) == ""
        channel = (await a.ask(Create(11, 11, DialogType.CHANNEL, [], "news"))).dialog
        added = [each.principal for each in people[2:5]]
        assert (await a.ask(Add(12, channel, 12, added))).code == "daily_limit"
        assert isinstance(await a.ask(Send(13, channel, 13, b"later ones are not held back")), Acked)
        assert isinstance(await a.ask(Add(14, channel, 14, added[:1])), Acked)
        assert isinstance(await a.ask(Invite(15, channel, 15, bo.principal)), Acked)
        assert (await a.ask(Invite(16, channel, 16, people[5].principal))).code == "daily_limit"
        assert [code(await begin(a, n)) for n in (17, 18)] == ["", "daily_limit"]


async def test_a_repetition_gets_its_ack_when_the_day_is_spent(capped: Running) -> None:
    """The ack was lost; to refuse the retry would say that nothing happened."""
    ann, bo, *people = await capped.world.people(5)
    await capped.world.create(DialogType.SELF, bo)
    async with capped.live(ann) as a:
        commands = [
            Create(10, 10, DialogType.CHANNEL, [], "news"),
            Add(11, created_dialog_id(ann.device, 10), 11, [each.principal for each in people]),
            Invite(12, created_dialog_id(ann.device, 10), 12, bo.principal),
            Create(13, 13, DialogType.CHANNEL, [], "news"),
            Create(14, 14, DialogType.CHANNEL, [], "news"),
        ]
        first = [await a.ask(command) for command in commands]
        assert code(await begin(a, 20)) == "daily_limit"
        assert (await a.ask(Invite(21, first[3].dialog, 21, bo.principal))).code == "daily_limit"
        assert [await a.ask(command) for command in commands] == first
        again = Invite(22, first[0].dialog, 22, bo.principal)
        assert isinstance(await a.ask(again), Acked)


async def test_what_was_refused_or_was_there_already_costs_nothing(capped: Running) -> None:
    ann, bo = await capped.world.people(2)
    public = await capped.world.create(DialogType.CHANNEL, bo, public=True)
    async with capped.live(ann) as a:
        for n in range(10, 20):
            assert (await a.ask(Create(n, n, DialogType.CHANNEL, [new_id()], "c"))).code == "principal_not_found"
            assert code(await begin(a, 50, bo)) == ""
        assert isinstance(await a.ask(Add(20, public, 60, [ann.principal])), Acked)
        assert [code(await begin(a, n)) for n in (70, 71, 72)] == ["", "", "daily_limit"]


async def test_a_list_larger_than_a_day_needs_a_whole_one(capped: Running) -> None:
    ann, *people = await capped.world.people(7)
    async with capped.live(ann) as a:
        assert code(await begin(a, 10, *people)) == ""
        assert code(await begin(a, 11, people[0])) == "daily_limit"
    assert len(people) > CAPS.additions_per_person_per_day


async def test_who_begins_a_direct_dialog_does_not_have_the_words_of_the_other_erased(server: Running) -> None:
    ann, bo = await server.world.people(2)
    async with server.live(ann) as a:
        begin_erasing = Create(
            1, 1, DialogType.DIRECT, [bo.principal], settings=Settings(message_retention_days=1), mode=Mode.OPEN
        )
        assert code(await a.ask(begin_erasing)) == "invalid_argument"
        in_a_channel = Create(2, 2, DialogType.CHANNEL, [], "news", settings=Settings(message_retention_days=1))
        assert code(await a.ask(in_a_channel)) == ""
