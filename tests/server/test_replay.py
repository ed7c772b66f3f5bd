"""Replay equals live: what a client folds while things happen is what another folds that was away, or is new.

Held for every body of the catalogue: a type without a scenario fails here.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, get_args

import msgspec
import pytest

from protocol import bodies
from protocol.bodies import AnyBody, TimelineEvent
from protocol.codec import JSON, MSGPACK, Codec, ServerMessage
from protocol.command_rules import Command
from protocol.commands import (
    Accept,
    Add,
    Block,
    ChangeSettings,
    Create,
    Decline,
    Delete,
    DeleteDialog,
    Demote,
    Edit,
    History,
    Invite,
    Leave,
    Mute,
    Pin,
    Promote,
    React,
    Remove,
    Send,
    Unblock,
    Unpin,
)
from protocol.dialog_types import DialogType, Mode
from protocol.events import DialogState
from protocol.ids import self_dialog_id
from protocol.kinds import DAY_MS
from protocol.limits import MISSED_CHANGES_MAX
from protocol.replies import Acked, HistoryPage, Synced
from storage.rows import ChangeEntry, VerdictCode
from tchat.fold.view import DialogView, View
from tests.support.harness import Running, Wire
from tests.support.world import Person, reaction

pytestmark = pytest.mark.anyio

_VISIBLE_HEADS = """
SELECT m.dialog_id, m.member, CASE WHEN m.member THEN h.seq ELSE upper(m.visible) - 1 END
FROM members m JOIN heads h USING (dialog_id) WHERE m.principal_id = $1
"""
_BODIES = "SELECT j.body FROM journal j JOIN members m USING (dialog_id) WHERE m.principal_id = ANY ($1)"


@dataclass
class Actor:
    """A person who does things."""

    person: Person
    wire: Wire
    _ids: Any = field(default_factory=lambda: itertools.count(10))

    @property
    def id(self) -> bytes:
        return self.person.principal

    async def do(self, command: Command) -> int:
        """Have a command done; its `seq`."""
        numbered = msgspec.structs.replace(command, id=next(self._ids), n=self.person.n())
        acked = await self.wire.ask(numbered)
        assert isinstance(acked, Acked), acked
        return acked.seq


@dataclass
class Stage:
    """Ann (an admin), Bo and Cy in a group where Ann said something, Ann and Bo in a direct dialog; Di is nowhere."""

    server: Running
    ann: Actor
    bo: Actor
    cy: Actor
    di: Person
    group: bytes = b""
    direct: bytes = b""
    said: int = 0
    added: int = 0

    async def prepare(self) -> None:
        """Everything that is there before."""
        members = [self.bo.id, self.cy.id]
        created = await self.ann.wire.ask(
            Create(1, self.ann.person.n(), DialogType.GROUP, members, "group", mode=Mode.OPEN)
        )
        self.group = created.dialog
        self.direct = (
            await self.ann.wire.ask(Create(2, self.ann.person.n(), DialogType.DIRECT, [self.bo.id], mode=Mode.OPEN))
        ).dialog
        self.said = await self.ann.do(Send(0, self.group, 0, b"hello"))

    async def note_profile(self) -> None:
        """What the HTTP API appends when Bo changes his profile."""
        me = self.bo.person
        entry = ChangeEntry(self_dialog_id(me.principal), me.principal, me.device, 0, bodies.ProfileChanged())
        assert (await self.server.node.pipeline.append(entry)).code is VerdictCode.OK

    async def note_devices(self) -> None:
        """What the server appends when the device log of Bo has grown."""
        me = self.bo.person
        sealed = (await self.bo.wire.ask(Create(3, me.n(), DialogType.DIRECT, [self.cy.id]))).dialog
        body = bodies.DevicesChanged(me.principal, bodies.LogHead(1, 2, bytes(32)))
        entry = ChangeEntry(sealed, me.principal, me.device, 0, body)
        assert (await self.server.node.pipeline.append(entry)).code is VerdictCode.OK


async def _post(on: Stage) -> None:
    await on.bo.do(Send(0, on.group, 0, b"hi", bodies.Header(reply_to=on.said)))
    await on.ann.do(Send(0, on.direct, 0, b"just you"))


async def _edit(on: Stage) -> None:
    for text in (b"hello!", b"hello!!"):
        await on.ann.do(Edit(0, on.group, 0, on.said, text))


async def _delete(on: Stage) -> None:
    """A message with all that hangs on it; in the timeline all of it is blank then, and the deletion stays."""
    await on.ann.do(Edit(0, on.group, 0, on.said, b"hello!"))
    await on.bo.do(React(0, on.group, 0, on.said, b"+1"))
    await on.ann.do(Delete(0, on.group, 0, on.said))


async def _react(on: Stage) -> None:
    for emoji in (b"+1", b"heart"):
        await on.bo.do(React(0, on.group, 0, on.said, emoji))
    await on.cy.do(React(0, on.group, 0, on.said, b"+1"))
    await on.cy.do(React(0, on.group, 0, on.said, b""))


async def _create(on: Stage) -> None:
    await on.cy.do(Create(0, 0, DialogType.GROUP, [on.ann.id, on.bo.id], "another", mode=Mode.OPEN))
    await on.cy.do(Create(0, 0, DialogType.CHANNEL, [on.bo.id], "news"))


async def _add(on: Stage) -> None:
    await on.ann.do(Add(0, on.group, 0, [on.di.principal]))


async def _remove(on: Stage) -> None:
    """One who comes back, and hears nothing of what was said meanwhile."""
    await on.ann.do(Remove(0, on.group, 0, on.cy.id))
    removed = await on.ann.do(Remove(0, on.group, 0, on.bo.id))
    await on.ann.do(Send(0, on.group, 0, b"alone", bodies.Header(keys_seq=removed)))
    await on.ann.do(Add(0, on.group, 0, [on.cy.id]))


async def _leave(on: Stage) -> None:
    """The last admin goes: an heir is promoted."""
    await on.ann.do(Leave(0, on.group, 0))


async def _promote(on: Stage) -> None:
    await on.ann.do(Promote(0, on.group, 0, on.bo.id))


async def _demote(on: Stage) -> None:
    await on.ann.do(Promote(0, on.group, 0, on.bo.id))
    await on.bo.do(Demote(0, on.group, 0, on.ann.id))


async def _change_settings(on: Stage) -> None:
    settings = bodies.Settings(allow_media=False, message_retention_days=30)
    await on.ann.do(ChangeSettings(0, on.group, 0, "renamed", "about", "https://example.com/a.png", settings))


async def _pin(on: Stage) -> None:
    await on.ann.do(Pin(0, on.group, 0, on.said))
    await on.ann.do(Unpin(0, on.group, 0))
    await on.ann.do(Pin(0, on.group, 0, on.said))


async def _delete_dialog(on: Stage) -> None:
    await on.ann.do(DeleteDialog(0, on.group, 0))


async def _mute(on: Stage) -> None:
    await on.bo.do(Mute(0, on.group, 0, 10**13))
    await on.bo.do(Mute(0, on.direct, 0, 10**13))
    await on.bo.do(Mute(0, on.direct, 0, 0))


async def _block(on: Stage) -> None:
    await on.bo.do(Block(0, on.ann.id, 0))


async def _unblock(on: Stage) -> None:
    await on.bo.do(Block(0, on.ann.id, 0))
    await on.bo.do(Block(0, on.cy.id, 0))
    await on.bo.do(Unblock(0, on.ann.id, 0))


async def _invite(on: Stage) -> None:
    """One is left open, one is declined, one is accepted."""
    groups = {}
    for name in ("open", "declined", "accepted"):
        create = Create(9, on.cy.person.n(), DialogType.GROUP, [on.ann.id, on.di.principal], name, mode=Mode.OPEN)
        groups[name] = (await on.cy.wire.ask(create)).dialog
        await on.cy.do(Invite(0, groups[name], 0, on.bo.id))
    await on.bo.do(Decline(0, groups["declined"], 0))
    await on.bo.do(Accept(0, groups["accepted"], 0))


SCENARIOS: dict[type[bodies.Body], Callable[[Stage], Awaitable[None]]] = {
    bodies.Posted: _post,
    bodies.Edited: _edit,
    bodies.Deleted: _delete,
    bodies.Erased: _delete,
    bodies.Reacted: _react,
    bodies.DialogCreated: _create,
    bodies.MembersAdded: _add,
    bodies.MemberRemoved: _remove,
    bodies.MemberLeft: _leave,
    bodies.Promoted: _promote,
    bodies.Demoted: _demote,
    bodies.SettingsChanged: _change_settings,
    bodies.Pinned: _pin,
    bodies.DialogDeleted: _delete_dialog,
    bodies.DevicesChanged: Stage.note_devices,
    bodies.Muted: _mute,
    bodies.Blocked: _block,
    bodies.Unblocked: _unblock,
    bodies.ProfileChanged: Stage.note_profile,
    bodies.Invited: _invite,
    bodies.Declined: _invite,
}


class Watcher:
    """One device of a person, and what it folds over its connections."""

    def __init__(self, server: Running, device: Person, codec: Codec) -> None:
        self.view = View(device.principal)
        self.position = ""
        self._server = server
        self._device = device
        self._codec = codec
        self._reached: dict[bytes, int] = {}
        self._wire: Wire

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[bool]:
        """Connect, and go on from where it stopped; whether the server could go on from there."""
        async with self._server.live(self._device, self._codec, self.position) as self._wire:
            for message in self._wire.caught_up:
                self._take(message)
            self.position = self._wire.position
            synced = self._wire.caught_up[0]
            assert isinstance(synced, Synced)
            yield synced.recovered

    async def read_on(self) -> None:
        """Until nothing is left to receive."""
        heads = await self._server.world.pool.fetch(_VISIBLE_HEADS, self._device.principal)
        while any(
            (member or dialog in self._reached) and self._reached.get(dialog, 0) < head
            for dialog, member, head in heads
        ):
            self._take(await self._wire.receive())

    async def history(self, dialog: bytes) -> HistoryPage:
        """All of a small dialog, folded too."""
        page = await self._wire.ask(History(3, dialog, limit=200))
        assert isinstance(page, HistoryPage)
        self.view.apply(page)
        return page

    def _take(self, message: ServerMessage) -> None:
        self.view.apply(message)
        if isinstance(message, TimelineEvent):
            self._reached[message.dialog] = max(self._reached.get(message.dialog, 0), message.seq)
        elif isinstance(message, DialogState):
            self._reached[message.dialog] = max(self._reached.get(message.dialog, 0), message.first_seq - 1)


@contextlib.asynccontextmanager
async def staged(server: Running) -> AsyncIterator[Stage]:
    """People who have devices to act with, and a past."""
    people = await server.world.people(4)
    for person in people:
        await server.world.create(DialogType.SELF, person)
    async with server.live(people[0]) as ann, server.live(people[1]) as bo, server.live(people[2]) as cy:
        actors = [Actor(person, wire) for person, wire in zip(people, (ann, bo, cy), strict=False)]
        stage = Stage(server, actors[0], actors[1], actors[2], di=people[3])
        await stage.prepare()
        yield stage


async def watcher(stage: Stage, principal: bytes, codec: Codec) -> Watcher:
    """One more device of somebody."""
    device = Person(principal)
    await stage.server.world.another_sign_in(device)
    return Watcher(stage.server, device, codec)


@pytest.mark.parametrize("codec", [MSGPACK, JSON], ids=lambda codec: codec.subprotocol)
@pytest.mark.parametrize("body", get_args(AnyBody), ids=lambda body: body.__name__)
async def test_replay_equals_live(server: Running, body: type[bodies.Body], codec: Codec) -> None:
    async with staged(server) as stage, contextlib.AsyncExitStack() as open_ones:
        principals = [stage.ann.id, stage.bo.id, stage.cy.id]
        live = [await watcher(stage, who, codec) for who in principals]
        away = [await watcher(stage, who, codec) for who in principals]
        for one in away:
            async with one.connected():
                await one.read_on()
        for one in live:
            await open_ones.enter_async_context(one.connected())
        await SCENARIOS[body](stage)
        await assert_it_happened(stage, body, principals)
        for who, one, other in zip(principals, live, away, strict=True):
            await one.read_on()
            async with other.connected() as recovered:
                assert recovered
                await other.read_on()
            held = {key: dialog.canonical() for key, dialog in one.view.dialogs.items()}
            assert {key: dialog.canonical() for key, dialog in other.view.dialogs.items()} == held
            assert other.view.canonical() == one.view.canonical()
            await assert_a_new_one_agrees(await watcher(stage, who, codec), one.view)


async def assert_it_happened(stage: Stage, body: type[bodies.Body], principals: list[bytes]) -> None:
    stored = await stage.server.world.pool.fetch(_BODIES, principals)
    kinds = {type(msgspec.msgpack.decode(row[0], type=AnyBody)) for row in stored}
    assert body in kinds


async def assert_a_new_one_agrees(new: Watcher, live: View) -> None:
    """A client that begins with nothing and asks for history holds the same; of what it left, too, if it asks."""
    async with new.connected():
        for key in list(new.view.dialogs):
            await new.history(key)
        assert new.view.canonical() == live.canonical()
        for key, dialog in live.dialogs.items():
            if not dialog.member:
                past = DialogView(key, live.me, dialog.type, dialog.mode)
                past.apply_page(await new.history(key))
                assert past.canonical() == dialog.canonical()


async def _change_what_was_said(on: Stage) -> None:
    """What happens to messages that Cy saw, while Cy is away."""
    seen = [on.said, *[await on.ann.do(Send(0, on.group, 0, text)) for text in (b"one", b"two", b"three")]]
    await on.ann.do(Edit(0, on.group, 0, seen[3], b"three, corrected once"))
    removed = await on.ann.do(Remove(0, on.group, 0, on.cy.id))
    unseen = await on.ann.do(Send(0, on.group, 0, b"not for Cy", bodies.Header(keys_seq=removed)))
    keys = bodies.Header(keys_seq=removed)
    await on.ann.do(Delete(0, on.group, 0, seen[0]))
    await on.ann.do(Edit(0, on.group, 0, seen[1], b"one, corrected", keys))
    await on.ann.do(Edit(0, on.group, 0, seen[3], b"three, corrected twice", keys))
    await on.bo.do(React(0, on.group, 0, seen[2], b"+1"))
    await on.bo.do(React(0, on.group, 0, unseen, b"+1"))
    await on.ann.do(Edit(0, on.group, 0, unseen, b"not for Cy either", keys))


async def _come_back(on: Stage) -> None:
    on.added = await on.ann.do(Add(0, on.group, 0, [on.cy.id]))


async def _away_and_back(on: Stage) -> None:
    await _change_what_was_said(on)
    await _come_back(on)


async def _away_and_back_twice(on: Stage) -> None:
    await _change_what_was_said(on)
    await _come_back(on)
    again = await on.ann.do(Send(0, on.group, 0, b"again", bodies.Header(keys_seq=on.added)))
    removed = await on.ann.do(Remove(0, on.group, 0, on.cy.id))
    await on.ann.do(Edit(0, on.group, 0, again, b"again, corrected", bodies.Header(keys_seq=removed)))
    await on.ann.do(Delete(0, on.group, 0, on.said + 1))
    await _come_back(on)


@pytest.mark.parametrize("codec", [MSGPACK, JSON], ids=lambda codec: codec.subprotocol)
@pytest.mark.parametrize("scenario", [_away_and_back, _away_and_back_twice])
async def test_who_returns_sees_what_was_done_meanwhile_to_what_they_may_see(
    server: Running, scenario: Callable[[Stage], Awaitable[None]], codec: Codec
) -> None:
    async with staged(server) as stage:
        live, away = await watcher(stage, stage.cy.id, codec), await watcher(stage, stage.cy.id, codec)
        async with away.connected():
            await away.read_on()
        async with live.connected():
            await scenario(stage)
            await live.read_on()
        async with away.connected() as recovered:
            assert recovered
            await away.read_on()
        assert away.view.canonical() == live.view.canonical()
        lines = live.view.dialogs[stage.group].canonical()["lines"]
        assert lines[stage.said] == "deleted"
        assert "not for Cy" not in str(lines)
        corrected = live.view.dialogs[stage.group].message(stage.said + 3)
        assert corrected is not None
        assert corrected.payload == b"three, corrected twice"
        await assert_a_new_one_agrees(await watcher(stage, stage.cy.id, codec), live.view)


async def test_who_missed_more_than_is_listed_drops_what_is_older_and_reads_it_again(server: Running) -> None:
    async with staged(server) as stage:
        live, away = await watcher(stage, stage.cy.id, MSGPACK), await watcher(stage, stage.cy.id, MSGPACK)
        async with away.connected():
            await away.read_on()
        async with live.connected():
            other = await stage.ann.do(Send(0, stage.group, 0, b"other"))
            await stage.ann.do(Remove(0, stage.group, 0, stage.cy.id))
            emojis = (reaction(stage.group, stage.bo.person, stage.said, str(at)) for at in range(MISSED_CHANGES_MAX))
            await server.world.flush(*emojis)
            await stage.ann.do(Delete(0, stage.group, 0, other))
            await _come_back(stage)
            await live.read_on()
            await live.history(stage.group)
        async with away.connected():
            await away.read_on()
            await away.history(stage.group)
        lines = live.view.dialogs[stage.group].canonical()["lines"]
        assert lines[other] == "deleted"
        assert lines[stage.said][-1] == {stage.bo.id.hex(): str(MISSED_CHANGES_MAX - 1).encode()}
        assert away.view.canonical() == live.view.canonical()


async def test_a_client_hides_by_itself_what_is_erased_because_of_its_age(server: Running) -> None:
    async with staged(server) as stage:
        live = await watcher(stage, stage.cy.id, MSGPACK)
        async with live.connected():
            ends_ms = server.node.clock.wall_ms() + DAY_MS
            short = await stage.ann.do(Send(0, stage.group, 0, b"short", bodies.Header(expires_at_ms=ends_ms)))
            await stage.ann.do(Edit(0, stage.group, 0, short, b"edited"))
            await stage.bo.do(React(0, stage.group, 0, short, b"+1"))
            await live.read_on()
        assert live.view.dialogs[stage.group].expire(ends_ms)
        await server.node.journal.erase_due(ends_ms, limit=99)
        await assert_a_new_one_agrees(await watcher(stage, stage.cy.id, MSGPACK), live.view)
        await server.node.journal.erase_due(ends_ms + DAY_MS, limit=99)
        await assert_a_new_one_agrees(await watcher(stage, stage.cy.id, MSGPACK), live.view)


async def test_who_returns_to_a_channel_reads_its_past_again(server: Running) -> None:
    async with staged(server) as stage:
        channel = (
            await stage.ann.wire.ask(Create(1, stage.ann.person.n(), DialogType.CHANNEL, [stage.cy.id], "x"))
        ).dialog
        kept, gone = [await stage.ann.do(Send(0, channel, 0, text)) for text in (b"kept", b"gone")]
        live, away = await watcher(stage, stage.cy.id, MSGPACK), await watcher(stage, stage.cy.id, MSGPACK)
        async with away.connected():
            await away.read_on()
            await away.history(channel)
        async with live.connected():
            await live.history(channel)
            await stage.ann.do(Remove(0, channel, 0, stage.cy.id))
            await stage.ann.do(Delete(0, channel, 0, gone))
            await stage.ann.do(Add(0, channel, 0, [stage.cy.id]))
            await live.read_on()
            assert live.view.dialogs[channel].message(gone) is None
            await live.history(channel)
        async with away.connected():
            await away.read_on()
            assert away.view.dialogs[channel].message(gone) is None
            await away.history(channel)
        assert live.view.canonical() == away.view.canonical()
        assert live.view.dialogs[channel].message(kept) is not None
        await assert_a_new_one_agrees(await watcher(stage, stage.cy.id, MSGPACK), live.view)
