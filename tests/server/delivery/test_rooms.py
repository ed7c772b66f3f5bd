"""Rooms: everybody in order, nobody before their time, and no event lost while a roster is read."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator

import pytest

from protocol.codec import MSGPACK
from protocol.dialog_types import DialogType
from server.delivery.prepared_message import PreparedMessage
from server.delivery.registry import Registry
from server.delivery.rooms import Rooms
from server.delivery.rows_to_wire import timeline_event
from server.identity.tokens import Claims
from storage.rows import JournalRow, Op
from tests.support.faulty import FaultyTimelines
from tests.support.world import Person, World

pytestmark = pytest.mark.anyio


class Listener:
    """What a room needs of a session: claims, an outbox, and being told that it missed something."""

    def __init__(self, person: Person) -> None:
        self.claims = Claims(1, person.principal, person.device, person.sign_in, 0)
        self.outbox = self
        self.seqs: list[int] = []
        self.ephemeral_count = 0
        self.missed: list[int] = []

    def content(self, _dialog: bytes, seq: int, _fanout: PreparedMessage) -> None:
        self.seqs.append(seq)

    def ephemeral(self, _fanout: PreparedMessage) -> None:
        self.ephemeral_count += 1

    def miss(self, _dialog: bytes, seq: int) -> None:
        self.missed.append(seq)


class Hall:
    """Rooms over a real timeline store with faults."""

    def __init__(self, world: World, *, rooms_max: int = 10) -> None:
        self.world = world
        self.timelines = FaultyTimelines(world)
        self.registry = Registry()
        self.rooms = Rooms(
            self.timelines, self.registry, asyncio.ensure_future, rooms_max=rooms_max, sleep=lambda _s: asyncio.sleep(0)
        )

    def listen(self, person: Person) -> Listener:
        listener = Listener(person)
        self.registry.attach(listener)  # type: ignore[arg-type]
        return listener

    async def tell(self, dialog: bytes, seq: int) -> None:
        roster_seq = await self.world.pool.fetchval("SELECT roster_seq FROM heads WHERE dialog_id = $1", dialog)
        self.tell_as_of(dialog, seq, roster_seq)

    def tell_as_of(self, dialog: bytes, seq: int, roster_seq: int) -> None:
        row = JournalRow(dialog, seq, dialog, dialog, 1, 0, 0, b"\x91\x05")
        self.rooms.content(dialog, seq, PreparedMessage(timeline_event(row)), roster_seq)


@pytest.fixture
async def hall(database_url: str) -> AsyncIterator[Hall]:
    world = await World.open(database_url)
    yield Hall(world)
    await world.close()


async def test_a_roster_is_read_once_while_it_does_not_change(hall: Hall) -> None:
    ann, bo, cy = await hall.world.people(3)
    dialog = await hall.world.create(DialogType.GROUP, ann, bo, cy)
    listeners = [hall.listen(person) for person in (ann, bo)]
    for seq in (2, 3, 4):
        await hall.tell(dialog, seq)
    await hall.rooms.settled()
    await hall.tell(dialog, 5)
    assert [listener.seqs for listener in listeners] == [[2, 3, 4, 5]] * 2
    assert hall.timelines.reads == 1


async def test_events_wait_in_order_for_a_newer_roster(hall: Hall) -> None:
    ann, bo, cy, di = await hall.world.people(4)
    dialog = await hall.world.create(DialogType.GROUP, ann, bo, cy)
    await hall.rooms.open(dialog)
    old, new = hall.listen(bo), hall.listen(di)
    added = (await hall.world.act(Op.ADD, dialog, ann, di)).verdict
    hall.timelines.gate = asyncio.Event()
    await hall.tell(dialog, added.seq)
    await hall.tell(dialog, added.seq + 1)
    assert old.seqs == []
    hall.timelines.gate.set()
    await hall.rooms.settled()
    assert old.seqs == new.seqs == [2, 3]


async def test_a_member_gets_nothing_from_before_their_time(hall: Hall) -> None:
    ann, bo, cy, di = await hall.world.people(4)
    dialog = await hall.world.create(DialogType.GROUP, ann, bo, cy)
    late = hall.listen(di)
    before = await hall.world.say(dialog, ann)
    added = (await hall.world.act(Op.ADD, dialog, ann, di)).verdict
    hall.tell_as_of(dialog, before.seq, before.roster_seq)
    await hall.tell(dialog, added.seq)
    await hall.rooms.settled()
    assert late.seqs == [added.seq]


async def test_a_removed_member_is_in_no_newer_roster(hall: Hall) -> None:
    ann, bo, cy = await hall.world.people(3)
    dialog = await hall.world.create(DialogType.GROUP, ann, bo, cy)
    gone, here = hall.listen(bo), hall.listen(cy)
    await hall.tell(dialog, 2)
    await hall.rooms.settled()
    await hall.world.act(Op.REMOVE, dialog, ann, bo)
    await hall.tell(dialog, 4)
    await hall.rooms.settled()
    assert (gone.seqs, here.seqs) == ([2], [2, 4])


async def test_a_failing_store_delays_and_loses_nothing(hall: Hall) -> None:
    ann, bo = await hall.world.people(2)
    dialog = await hall.world.create(DialogType.DIRECT, ann, bo)
    listener = hall.listen(bo)
    hall.timelines.failing = 3
    await hall.tell(dialog, 2)
    await hall.tell(dialog, 3)
    await hall.rooms.settled()
    assert (listener.seqs, hall.timelines.reads) == ([2, 3], 4)


async def test_a_roster_that_cannot_be_read_at_all_keeps_nobody_waiting(
    hall: Hall, caplog: pytest.LogCaptureFixture
) -> None:
    ann, bo = await hall.world.people(2)
    dialog = await hall.world.create(DialogType.DIRECT, ann, bo)
    listener = hall.listen(bo)
    hall.timelines.fault = ValueError("no such type of dialog")
    await hall.tell(dialog, 2)
    assert (await hall.rooms.open(dialog)).members == {}
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    hall.timelines.fault = None
    await hall.tell(dialog, 3)
    await hall.rooms.settled()
    assert listener.seqs == [3]


async def test_a_room_is_not_closed_for_its_own_sake(database_url: str) -> None:
    world = await World.open(database_url)
    hall = Hall(world, rooms_max=1)
    hall.timelines.gate = asyncio.Event()
    ann, bo, cy = await world.people(3)
    for other in (bo, cy):
        dialog = await world.create(DialogType.DIRECT, ann, other)
        await hall.tell(dialog, 2)
        await hall.tell(dialog, 3)
    hall.timelines.gate.set()
    await hall.rooms.settled()
    assert hall.timelines.reads == 2
    await world.close()


async def test_a_quiet_room_keeps_nobody_who_left(hall: Hall) -> None:
    ann, bo = await hall.world.people(2)
    dialog = await hall.world.create(DialogType.DIRECT, ann, bo)
    listener = hall.listen(bo)
    await hall.tell(dialog, 2)
    await hall.rooms.settled()
    hall.registry.detach(listener)  # type: ignore[arg-type]
    hall.rooms.forget_who_left()
    left = weakref.ref(listener)
    del listener
    gc.collect()
    assert left() is None


async def test_what_waits_is_bounded_and_the_rest_is_caught_up(hall: Hall) -> None:
    ann, bo = await hall.world.people(2)
    dialog = await hall.world.create(DialogType.DIRECT, ann, bo)
    listener = hall.listen(bo)
    for seq in range(2, 1502):
        hall.tell_as_of(dialog, seq, 1)
    await hall.rooms.settled()
    assert (listener.seqs, listener.missed) == (list(range(2, 1002)), [1002])


async def test_the_room_that_was_quiet_longest_is_closed_first(database_url: str) -> None:
    world = await World.open(database_url)
    hall = Hall(world, rooms_max=2)
    people = await world.people(4)
    dialogs = [await world.create(DialogType.DIRECT, people[0], other) for other in people[1:]]
    for dialog in (dialogs[0], dialogs[1], dialogs[0], dialogs[2]):
        await hall.rooms.open(dialog)
    assert (len(hall.rooms), hall.timelines.reads) == (2, 3)
    await hall.rooms.open(dialogs[0])
    assert hall.timelines.reads == 3
    await world.close()


async def test_ephemeral_events_go_to_the_others_of_an_open_room(hall: Hall) -> None:
    ann, bo, cy = await hall.world.people(3)
    dialog = await hall.world.create(DialogType.GROUP, ann, bo, cy)
    listeners = [hall.listen(person) for person in (ann, bo)]
    prepared = PreparedMessage(MSGPACK.decode_server(b"\x92\x49\xa0"))  # type: ignore[arg-type]
    hall.rooms.ephemeral(dialog, prepared, but=ann.principal)
    await hall.rooms.open(dialog)
    hall.rooms.ephemeral(dialog, prepared, but=ann.principal)
    assert [listener.ephemeral_count for listener in listeners] == [0, 1]


async def test_who_is_removed_is_told_from_where_they_may_have_missed_something(hall: Hall) -> None:
    ann, bo, cy, di = await hall.world.people(4)
    dialog = await hall.world.create(DialogType.GROUP, ann, bo, cy)
    gone = hall.listen(bo)
    await hall.tell(dialog, 1)
    await hall.rooms.settled()
    added = (await hall.world.act(Op.ADD, dialog, ann, di)).verdict
    removed = (await hall.world.act(Op.REMOVE, dialog, ann, bo)).verdict
    untold = [hall.rooms.undelivered_from(dialog, removed.seq)]
    hall.tell_as_of(dialog, added.seq, added.roster_seq)
    untold.append(hall.rooms.undelivered_from(dialog, removed.seq))
    await hall.rooms.settled()
    untold.append(hall.rooms.undelivered_from(dialog, removed.seq))
    assert gone.seqs == [1]
    assert untold == [None, added.seq, added.seq]
