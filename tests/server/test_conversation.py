"""Conversations over real sockets: what two people see of what they do."""

from __future__ import annotations

import pytest

from protocol import bodies
from protocol.bodies import TimelineEvent
from protocol.codec import CODECS, JSON, MSGPACK, Codec
from protocol.commands import (
    Add,
    Authenticate,
    Block,
    Create,
    Delete,
    DeleteDialog,
    Edit,
    Heartbeat,
    HighWaterMark,
    History,
    PresenceSubscribe,
    React,
    Receipt,
    Remove,
    Roster,
    Send,
    SignOut,
    Sync,
    Typing,
)
from protocol.dialog_types import DialogType, Mode
from protocol.errors import ErrorCode
from protocol.events import DialogState, HeartbeatReply, PresenceChanged, ReceiptChanged, TypingChanged
from protocol.ids import self_dialog_id
from protocol.kinds import Kind
from protocol.limits import REPLY_BYTES_MAX
from protocol.replies import Acked, Authenticated, Done, Failed, HistoryPage, RosterPage, Synced
from tests.support.harness import Running
from tests.support.world import message, reaction

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("codec", CODECS.values(), ids=lambda codec: codec.subprotocol)
async def test_a_message_reaches_the_other_and_is_acked(server: Running, codec: Codec) -> None:
    ann, bo = await server.world.people(2)
    async with server.live(ann, codec) as a, server.live(bo) as b:
        created = await a.ask(Create(3, 1, DialogType.DIRECT, [bo.principal], mode=Mode.OPEN))
        assert isinstance(created, Acked)
        assert (await b.until(DialogState)).dialog == created.dialog
        acked = await a.ask(Send(4, created.dialog, 2, b"hello"))
        assert (acked.seq, acked.n, acked.messages) == (2, 2, 1)
        happened = await b.until(TimelineEvent)
        while happened.seq < 2:
            happened = await b.until(TimelineEvent)
        assert happened.body == bodies.Posted(Kind.MESSAGE, bodies.Header(), b"hello")
        assert (happened.author, happened.device, happened.n) == (ann.principal, ann.device, 2)


async def test_a_pair_has_one_direct_dialog_even_if_one_is_named_twice(server: Running) -> None:
    ann, bo = await server.world.people(2)
    async with server.live(ann) as a:
        dialog = (await a.ask(Create(3, 1, DialogType.DIRECT, [bo.principal], mode=Mode.OPEN))).dialog
        assert (
            await a.ask(Create(4, 2, DialogType.DIRECT, [bo.principal, bo.principal], mode=Mode.OPEN))
        ).dialog == dialog
        assert (
            await a.ask(Create(5, 3, DialogType.DIRECT, [ann.principal, bo.principal], mode=Mode.OPEN))
        ).dialog == dialog


async def test_resume_brings_exactly_what_was_missed(server: Running) -> None:
    ann, bo = await server.world.people(2)
    async with server.live(ann) as a:
        async with server.live(bo) as b:
            dialog = (await a.ask(Create(3, 1, DialogType.DIRECT, [bo.principal], mode=Mode.OPEN))).dialog
            await a.ask(Send(4, dialog, 2, b"one"))
            await b.until(DialogState)
        await server.node.horizon.advance()
        async with server.live(bo) as b:
            position = b.position
            await a.ask(Send(5, dialog, 3, b"two"))
            await b.until(TimelineEvent)
        await a.ask(Send(6, dialog, 4, b"three"))
        async with server.live(bo, position=position) as b:
            synced, state, *events = b.caught_up
            assert isinstance(synced, Synced)
            assert synced.recovered
            assert isinstance(state, DialogState)
            assert [event.seq for event in events if isinstance(event, TimelineEvent)] == [3, 4]


async def test_a_first_sync_is_a_window(server: Running) -> None:
    ann, bo = await server.world.people(2)
    dialog = await server.world.create(DialogType.DIRECT, ann, bo)
    for _ in range(60):
        await server.world.say(dialog, ann)
    async with server.live(bo) as b:
        synced, state, *events = b.caught_up
        assert isinstance(synced, Synced)
        assert not synced.recovered
        assert isinstance(state, DialogState)
        seqs = [event.seq for event in events if isinstance(event, TimelineEvent)]
        assert (state.first_seq, seqs) == (12, list(range(12, 62)))


async def test_history_brings_what_came_later(server: Running) -> None:
    ann, bo = await server.world.people(2)
    async with server.live(ann) as a:
        dialog = (await a.ask(Create(3, 1, DialogType.DIRECT, [bo.principal], mode=Mode.OPEN))).dialog
        await a.ask(Send(4, dialog, 2, b"one"))
        await a.ask(Send(5, dialog, 3, b"two"))
        await a.ask(Edit(6, dialog, 4, 2, b"ONE"))
        await a.ask(React(7, dialog, 5, 2, b"+"))
        page = await a.ask(History(8, dialog, from_seq=1, to_seq=2))
        assert isinstance(page, HistoryPage)
        assert [event.seq for event in page.events] == [1, 2]
        assert [event.seq for event in page.later] == [4, 5]
        newest = await a.ask(History(9, dialog, limit=2))
        assert ([event.seq for event in newest.events], newest.more) == ([4, 5], True)
        oldest = await a.ask(History(10, dialog, limit=2, newest_first=False))
        assert ([event.seq for event in oldest.events], oldest.more) == ([1, 2], True)


async def test_a_page_of_history_is_bounded_in_bytes_and_in_what_came_later(server: Running) -> None:
    ann, bo = await server.world.people(2)
    dialog = await server.world.create(DialogType.DIRECT, ann, bo)
    for _ in range(2, 8):
        await server.world.flush(message(dialog, ann))
    for seq in range(2, 8):
        await server.world.flush(*(reaction(dialog, ann, seq) for _ in range(150)))
    large = await server.world.flush(*(message(dialog, ann, "x" * 50_000) for _ in range(30)))
    async with server.live(ann) as a:
        page = await a.ask(History(3, dialog, 2, 7))
        assert [event.seq for event in page.events] == [5, 6, 7]
        assert (len(page.later), page.more) == (450, True)
        page = await a.ask(History(4, dialog, 2, 7, newest_first=False))
        assert [event.seq for event in page.events] == [2, 3, 4]
        first, seen = large[0].seq, []
        while first <= large[-1].seq:
            page = await a.ask(History(5, dialog, first, large[-1].seq, newest_first=False))
            assert sum(len(event.body.payload) for event in page.events) < REPLY_BYTES_MAX
            seen += [event.seq for event in page.events]
            first = seen[-1] + 1
            assert page.more is (first <= large[-1].seq)
        assert seen == [verdict.seq for verdict in large]


async def test_catching_up_goes_on_where_a_full_page_ended(server: Running) -> None:
    ann, *others = await server.world.people(5)
    dialogs = [await server.world.create(DialogType.DIRECT, ann, other) for other in others]
    for dialog in dialogs:
        await server.world.flush(*(message(dialog, ann, "x" * 50_000) for _ in range(14)))
    async with server.live(ann) as a:
        for dialog in dialogs:
            events = [event for event in a.caught_up if isinstance(event, TimelineEvent) and event.dialog == dialog]
            assert [event.seq for event in events] == list(range(1, 16))


async def test_a_removed_member_sees_the_removal_and_nothing_after(server: Running) -> None:
    ann, bo, cy = await server.world.people(3)
    async with server.live(ann) as a, server.live(bo) as b:
        dialog = (await a.ask(Create(3, 1, DialogType.GROUP, [bo.principal, cy.principal], "g", mode=Mode.OPEN))).dialog
        await a.ask(Remove(4, dialog, 2, bo.principal))
        await a.ask(Send(5, dialog, 3, b"secret"))
        seen = await b.until(TimelineEvent)
        while not isinstance(seen.body, bodies.MemberRemoved):
            seen = await b.until(TimelineEvent)
        page = await b.ask(History(6, dialog))
        assert [event.seq for event in page.events] == [1, 2]
        refused = await b.ask(Send(7, dialog, 1, b"still here"))
        assert (refused.code, (await b.ask(Roster(8, dialog))).members) == ("dialog_not_found", [])


async def test_an_added_member_starts_at_the_adding(server: Running) -> None:
    ann, bo, cy, di = await server.world.people(4)
    async with server.live(ann) as a, server.live(di) as d:
        dialog = (await a.ask(Create(3, 1, DialogType.GROUP, [bo.principal, cy.principal], "g", mode=Mode.OPEN))).dialog
        await a.ask(Send(4, dialog, 2, b"before"))
        await a.ask(Add(5, dialog, 3, [di.principal]))
        await a.ask(Send(6, dialog, 4, b"after"))
        state = await d.until(DialogState)
        assert (state.first_seq, state.visible, len(state.members)) == (3, [(3, 0)], 4)
        assert [(await d.until(TimelineEvent)).seq, (await d.until(TimelineEvent)).seq] == [3, 4]
        page = await d.ask(History(7, dialog))
        assert [event.seq for event in page.events] == [3, 4]


async def test_strangers_learn_nothing(server: Running) -> None:
    ann, bo, eve = await server.world.people(3)
    dialog = await server.world.create(DialogType.DIRECT, ann, bo)
    await server.world.say(dialog, ann)
    async with server.live(eve) as e:
        for command in (
            History(3, dialog),
            Roster(4, dialog),
            Send(5, dialog, 1, b"x"),
            Delete(6, dialog, 2, 2),
            Add(7, dialog, 3, [eve.principal]),
            Typing(8, dialog),
            Receipt(9, HighWaterMark(dialog, 1, 1)),
        ):
            assert (await e.ask(command)).code == "dialog_not_found"


async def test_receipts_are_gathered_and_delivered(server: Running) -> None:
    ann, bo = await server.world.people(2)
    dialog = await server.world.create(DialogType.DIRECT, ann, bo)
    await server.world.say(dialog, ann)
    async with server.live(ann) as a, server.live(bo) as b:
        await b.send(Receipt(0, HighWaterMark(dialog, 2, 1)))
        await b.ask(Receipt(3, HighWaterMark(dialog, 1, 2)))
        await server.node.receipts.flush()
        assert await a.until(ReceiptChanged) == ReceiptChanged(dialog, bo.principal, 2, 2, 1)
    async with server.live(ann) as a:
        state = next(message for message in a.caught_up if isinstance(message, DialogState))
        assert {member.principal: member.read for member in state.members}[bo.principal] == 2


async def test_typing_and_presence_reach_the_peer(server: Running) -> None:
    ann, bo, eve = await server.world.people(3)
    dialog = await server.world.create(DialogType.DIRECT, ann, bo)
    async with server.live(ann) as a:
        assert isinstance(await a.ask(PresenceSubscribe(3, [bo.principal, eve.principal])), Done)
        assert await a.until(PresenceChanged) == PresenceChanged(bo.principal, online=False)
        async with server.live(bo) as b, server.live(eve):
            assert (await a.until(PresenceChanged)).online
            await b.ask(Typing(3, dialog))
            assert await a.until(TypingChanged) == TypingChanged(dialog, bo.principal, active=True)
        gone = await a.until(PresenceChanged)
        assert (gone.principal, gone.online) == (bo.principal, False)


async def test_who_is_blocked_does_not_type_to_who_blocked_them(server: Running) -> None:
    ann, bo = await server.world.people(2)
    await server.world.create(DialogType.SELF, bo)
    dialog = await server.world.create(DialogType.DIRECT, ann, bo)
    async with server.live(ann) as a, server.live(bo) as b:
        assert isinstance(await a.ask(Typing(3, dialog)), Done)
        await b.until(TypingChanged)
        assert isinstance(await b.ask(Block(3, ann.principal, 2)), Acked)
        assert (await a.ask(Typing(4, dialog))).code == "blocked"
        assert isinstance(await b.ask(Typing(5, self_dialog_id(bo.principal))), Done)


async def test_a_newer_connection_of_a_device_takes_over(server: Running) -> None:
    ann = await server.world.person()
    async with server.live(ann) as old, server.live(ann):
        assert await old.close_code() == 4300


async def test_signing_out_closes_and_keeps_the_token_out(server: Running) -> None:
    ann = await server.world.person()
    async with server.live(ann) as a:
        assert isinstance(await a.ask(SignOut(3)), Done)
        assert await a.close_code() == 4200
    async with server.connected() as a:
        assert isinstance(await a.ask(Authenticate(1, server.token(ann))), Authenticated)
        assert (await a.ask(Sync(2))).code == "signed_out"
        assert await a.close_code() == 4200


async def test_commands_out_of_their_state_are_refused(server: Running) -> None:
    ann = await server.world.person()
    async with server.connected(JSON) as a:
        assert (await a.ask(Sync(1))).code == "wrong_state"
        assert (await a.ask(Send(2, ann.principal, 1, b""))).code == "wrong_state"
        await a.send(Heartbeat(0))
        assert await a.until(HeartbeatReply) == HeartbeatReply("")
    async with server.live(ann, MSGPACK) as a:
        assert (await a.ask(Sync(3))).code == "wrong_state"


async def test_rubbish_is_answered_then_closed(server: Running) -> None:
    async with server.connected() as a:
        for _ in range(21):
            await a.send(b"\xc1")
        assert isinstance(await a.receive(), Failed)
        assert await a.close_code() == 4400


async def test_a_deleted_dialog_is_read_and_takes_no_sends(server: Running) -> None:
    ann, bo = await server.world.people(2)
    dialog = await server.world.create(DialogType.CHANNEL, ann, bo)
    async with server.live(ann) as ann_wire, server.live(bo) as bo_wire:
        refused = await bo_wire.ask(DeleteDialog(1, dialog, bo.n()))
        assert refused.code == ErrorCode.ROLE_REQUIRED
        deleted = await ann_wire.ask(DeleteDialog(1, dialog, ann.n()))
        event = await bo_wire.until(TimelineEvent)
        assert (event.seq, event.body) == (deleted.seq, bodies.DialogDeleted())
        refused = await ann_wire.ask(Send(2, dialog, ann.n(), b"too late"))
        assert refused.code == ErrorCode.DIALOG_NOT_FOUND
        page = await bo_wire.ask(History(3, dialog))
        assert [event.seq for event in page.events] == [1, 2]
    async with server.live(bo) as bo_wire:
        states = [each for each in bo_wire.caught_up if isinstance(each, DialogState) and each.dialog == dialog]
        assert [(state.deleted, state.member) for state in states] == [(True, True)]


async def test_a_roster_comes_in_pages(server: Running) -> None:
    people = await server.world.people(5)
    dialog = await server.world.create(DialogType.GROUP, *people)
    async with server.live(people[0]) as a:
        first = await a.ask(Roster(3, dialog, limit=3))
        assert isinstance(first, RosterPage)
        rest = await a.ask(Roster(4, dialog, after=first.members[-1].principal))
        assert (len(first.members), first.more, len(rest.members), rest.more) == (3, True, 2, False)
        assert sorted(p.principal for p in people) == [m.principal for m in [*first.members, *rest.members]]


async def test_live_position_moves_with_the_heartbeat(server: Running) -> None:
    ann = await server.world.person()
    async with server.live(ann) as a:
        await server.node.horizon.advance()
        await a.send(Heartbeat(0))
        beat = await a.until(HeartbeatReply)
        assert beat.position
    async with server.live(ann, position=beat.position) as a:
        assert a.caught_up == [Synced(2, recovered=True)]


async def test_foreign_and_future_positions_are_not_recovered(server: Running) -> None:
    ann, bo = await server.world.people(2)
    async with server.live(bo) as b:
        of_bo = b.position
    future = server.node.horizon._positions.issue(server.node.horizon.epoch, 2**62, ann.principal)
    for foreign in (of_bo, future, "rubbish", "AAAA"):
        async with server.live(ann, position=foreign) as a:
            assert a.caught_up == [Synced(2, recovered=False)]
