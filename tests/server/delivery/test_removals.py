"""Who is removed gets every event before the removal, once, and nothing after it, whatever the room knew and when."""

from __future__ import annotations

import asyncio
import random
from typing import Any, cast

import msgspec
import pytest

from protocol import bodies as b
from protocol.bodies import TimelineEventRaw
from protocol.close_codes import CloseCode
from protocol.dialog_types import DialogType
from protocol.ids import new_id
from server.delivery.departures import Departures
from server.delivery.prepared_message import PreparedEvents
from server.delivery.presence import Presence
from server.delivery.registry import Registry
from server.delivery.rooms import Rooms
from server.delivery.routing import Router
from storage.rows import DialogRoster
from tests.support.clock import ManualClock
from tests.support.no_shares import NO_SHARES

pytestmark = pytest.mark.anyio

DIALOG, OTHER = new_id(), new_id()
CONTENT = b"\x91\x05"


class Timeline:
    """A dialog of some people: what is committed, and what was seen by each. Others have nobody."""

    def __init__(self, people: list[bytes]) -> None:
        self.events: list[TimelineEventRaw] = []
        self.members = dict.fromkeys(people, 1)
        self.roster_seq = 1
        self.visible: dict[bytes, list[int]] = {who: [] for who in people}
        self.commit()  # in the place of the creation

    def commit(self, body: b.Body | None = None) -> None:
        seq, before = len(self.events) + 1, set(self.members)
        raw = CONTENT if body is None else msgspec.msgpack.encode(body)
        self.events.append(TimelineEventRaw(DIALOG, seq, DIALOG, DIALOG, seq, 0, 0, msgspec.Raw(raw)))
        match body:
            case b.MembersAdded(members=principals):
                self.members |= dict.fromkeys(principals, seq)
            case b.MemberRemoved(member=who):
                del self.members[who]
        if body is not None:
            self.roster_seq = seq
        for who in before | set(self.members):
            self.visible[who].append(seq)

    async def find_removed(self, dialog: bytes, after: int, until: int) -> dict[bytes, int]:
        assert dialog == DIALOG
        await asyncio.sleep(0)
        changes = [
            (event.seq, msgspec.msgpack.decode(event.body, type=b.AnyBody)) for event in self.events[after:until]
        ]
        return {change.member: seq for seq, change in changes if isinstance(change, b.MemberRemoved)}

    async def read_roster(self, dialog: bytes) -> DialogRoster:
        await asyncio.sleep(0)
        if dialog == DIALOG:
            found = DialogRoster(DialogType.GROUP, self.roster_seq, dict(self.members))
        else:
            found = DialogRoster(DialogType.GROUP, 0, {})
        await asyncio.sleep(0)
        return found


class Reader:
    """A subscriber that is its own outbox, and reads the timeline at once when it is told to."""

    def __init__(self, principal: bytes, timeline: Timeline) -> None:
        self.principal, self.device, self.sign_in = principal, new_id(), new_id()
        self.outbox: Any = self
        self.got: list[int] = []
        self.sent_to = 0
        self._timeline = timeline

    def push_events(self, prepared: PreparedEvents) -> None:
        for event in prepared.events:
            assert event.dialog == DIALOG
            if event.seq > self.sent_to:
                self.got.append(event.seq)

    def read_from(self, dialog: bytes, seq: int) -> None:
        assert dialog == DIALOG
        self.got += [each for each in self._timeline.visible[self.principal] if each >= max(seq, self.sent_to + 1)]
        self.sent_to = len(self._timeline.events)

    def close(self, code: CloseCode, reason: str = "") -> None:
        raise AssertionError((code, reason))


def delivery_to(timeline: Timeline, rooms_max: int) -> tuple[Rooms, Router, list[Reader]]:
    registry = Registry()
    rooms = Rooms(cast("Any", timeline), NO_SHARES, registry, asyncio.ensure_future, rooms_max=rooms_max)
    router = Router(rooms, Presence(registry, ManualClock()))
    readers = [Reader(who, timeline) for who in timeline.visible]
    for reader in readers:
        registry.attach(reader)
    return rooms, router, readers


@pytest.mark.parametrize("meanwhile", ["nothing", "closed", "read again"])
async def test_who_is_removed_gets_what_was_delivered_under_a_roster_without_them(meanwhile: str) -> None:
    timeline = Timeline([new_id(), new_id()])
    gone, stays = timeline.members
    rooms, router, readers = delivery_to(timeline, rooms_max=1)
    timeline.commit()
    timeline.commit(b.MemberRemoved(gone))
    router.deliver(timeline.events[1], 1)
    await rooms.wait_settled()
    timeline.commit(b.MembersAdded([gone]))
    if meanwhile == "closed":
        await rooms.open(OTHER)
    elif meanwhile == "read again":
        await rooms.open(DIALOG, timeline.roster_seq)
    timeline.visible[gone].remove(4)  # they read now what they may see up to the removal
    router.deliver(timeline.events[2], 3)
    await rooms.wait_settled()
    assert {reader.principal: reader.got for reader in readers} == {gone: [2, 3], stays: [2, 3]}


@pytest.mark.parametrize("seed", range(24))
async def test_everybody_gets_what_they_may_see_once_and_in_order(seed: int) -> None:
    rng = random.Random(seed)
    timeline = Timeline([new_id() for _ in range(4)])
    rooms, router, readers = delivery_to(timeline, rooms_max=1 + seed % 2)
    delivered, rosters = 0, [1, 1]
    while delivered < 60:
        step = rng.randrange(10)
        if step < 4 and len(timeline.events) < 60:
            who = rng.choice(list(timeline.visible))
            change = b.MemberRemoved(who) if who in timeline.members else b.MembersAdded([who])
            timeline.commit(change if rng.random() < 0.5 else None)
            rosters.append(timeline.roster_seq)
        elif step < 7 and delivered < len(timeline.events):
            delivered += 1  # with the roster number of its own flush, or a later one, as when it is read
            later = rng.choice([delivered, delivered, rng.randint(delivered, len(timeline.events))])
            router.deliver(timeline.events[delivered - 1], rosters[later])
        elif step == 7:
            await rooms.open(OTHER)
        elif step == 8:
            await rooms.open(DIALOG, timeline.roster_seq)
        await asyncio.sleep(0)
        if rng.random() < 0.3:
            await rooms.wait_settled()  # a position may pass what was delivered: nobody lacks any of it
            for reader in readers:
                due = [seq for seq in timeline.visible[reader.principal] if seq <= delivered]
                assert reader.got[: len(due)] == due
    await rooms.wait_settled()
    for reader in readers:
        assert reader.got == timeline.visible[reader.principal]


async def test_of_too_many_dialogs_with_notes_the_oldest_is_forgotten_and_nobody_reads_anything() -> None:
    class NobodyRemoved:
        async def find_removed(self, _dialog: bytes, _after: int, _until: int) -> dict[bytes, int]:
            return {}

    left: list[bytes] = []

    def leave(dialog: bytes, _first: int) -> None:
        left.append(dialog)

    known = Departures(cast("Any", NobodyRemoved()), Registry(), asyncio.ensure_future, leave, dialogs_max=2)
    dialogs = [new_id() for _ in range(4)]
    for dialog in dialogs:
        known.delivered(TimelineEventRaw(dialog, 1, DIALOG, DIALOG, 1, 0, 0, msgspec.Raw(CONTENT)), 2, {})
    await asyncio.wait(known.settling)
    assert (list(known.notes), left) == (dialogs[2:], [])
