"""Rooms: everybody in order, nobody before their time, and no event lost while a roster is read."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from protocol import bodies
from protocol.dialog_types import DialogType
from protocol.events import HeartbeatReply
from server.delivery import rooms as rooms_module
from server.delivery.prepared_message import PreparedMessage
from tests.server.delivery.hall import Hall
from tests.support.turns import until
from tests.support.world import World

pytestmark = pytest.mark.anyio


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
        await hall.deliver(dialog, seq)
    await hall.rooms.wait_settled()
    await hall.deliver(dialog, 5)
    assert [listener.seqs for listener in listeners] == [[2, 3, 4, 5]] * 2
    assert hall.timelines.reads == 1


async def test_events_of_one_flush_are_pushed_together(hall: Hall) -> None:
    ann, bo, cy = await hall.world.people(3)
    dialog = await hall.world.create(DialogType.GROUP, ann, bo, cy)
    listeners = [hall.listen(person) for person in (ann, bo)]
    room = await hall.rooms.open(dialog)
    hall.deliver_all(dialog, [2, 3, 4], room.roster_seq)
    assert [(listener.seqs, listener.pushes) for listener in listeners] == [([2, 3, 4], 1)] * 2


async def test_of_the_events_of_one_flush_a_member_gets_those_of_their_time(hall: Hall) -> None:
    ann, bo, cy, di = await hall.world.people(4)
    dialog = await hall.world.create(DialogType.GROUP, ann, bo, cy)
    added = (await hall.world.act(bodies.MembersAdded, dialog, ann, di)).verdict
    room = await hall.rooms.open(dialog, added.seq)
    old, new = hall.listen(bo), hall.listen(di)
    hall.deliver_all(dialog, [added.seq - 1, added.seq, added.seq + 1], room.roster_seq)
    assert (old.seqs, new.seqs) == ([1, 2, 3], [2, 3])


async def test_events_wait_in_order_for_a_newer_roster(hall: Hall) -> None:
    ann, bo, cy, di = await hall.world.people(4)
    dialog = await hall.world.create(DialogType.GROUP, ann, bo, cy)
    await hall.rooms.open(dialog)
    old, new = hall.listen(bo), hall.listen(di)
    added = (await hall.world.act(bodies.MembersAdded, dialog, ann, di)).verdict
    hall.timelines.gate = asyncio.Event()
    await hall.deliver(dialog, added.seq)
    await hall.deliver(dialog, added.seq + 1)
    assert old.seqs == []
    hall.timelines.gate.set()
    await hall.rooms.wait_settled()
    assert old.seqs == new.seqs == [2, 3]


async def test_a_member_gets_nothing_from_before_their_time(hall: Hall) -> None:
    ann, bo, cy, di = await hall.world.people(4)
    dialog = await hall.world.create(DialogType.GROUP, ann, bo, cy)
    late = hall.listen(di)
    before = await hall.world.say(dialog, ann)
    added = (await hall.world.act(bodies.MembersAdded, dialog, ann, di)).verdict
    hall.deliver_as_of(dialog, before.seq, before.roster_seq)
    await hall.deliver(dialog, added.seq)
    await hall.rooms.wait_settled()
    assert late.seqs == [added.seq]


async def test_a_removed_member_is_in_no_newer_roster(hall: Hall) -> None:
    ann, bo, cy = await hall.world.people(3)
    dialog = await hall.world.create(DialogType.GROUP, ann, bo, cy)
    gone, here = hall.listen(bo), hall.listen(cy)
    await hall.deliver(dialog, 2)
    await hall.rooms.wait_settled()
    await hall.world.act(bodies.MemberRemoved, dialog, ann, bo)
    await hall.deliver(dialog, 4)
    await hall.rooms.wait_settled()
    assert (gone.seqs, here.seqs) == ([2], [2, 4])


async def test_a_failing_store_delays_and_loses_nothing(hall: Hall) -> None:
    ann, bo = await hall.world.people(2)
    dialog = await hall.world.create(DialogType.DIRECT, ann, bo)
    listener = hall.listen(bo)
    hall.timelines.failing = 3
    await hall.deliver(dialog, 2)
    await hall.deliver(dialog, 3)
    await hall.rooms.wait_settled()
    assert (listener.seqs, hall.timelines.reads) == ([2, 3], 4)


@pytest.mark.parametrize("fault", [ValueError("no such type"), RuntimeError("any"), KeyError("other")])
async def test_any_error_at_a_roster_delays_and_loses_nothing(hall: Hall, fault: Exception) -> None:
    ann, bo = await hall.world.people(2)
    dialog = await hall.world.create(DialogType.DIRECT, ann, bo)
    listener = hall.listen(bo)
    hall.timelines.fault = fault
    await hall.deliver(dialog, 2)
    settled = asyncio.ensure_future(hall.rooms.wait_settled())
    for _ in range(4):
        await asyncio.sleep(0)
    hall.deliver_as_of(dialog, 3, 1)
    assert not settled.done(), "the horizon waits, so no position passes what waits"
    hall.timelines.fault = None
    await settled
    assert listener.seqs == [2, 3]


async def test_of_a_roster_that_can_never_be_read_every_session_reads_the_timeline(hall: Hall) -> None:
    ann, bo, cy = await hall.world.people(3)
    dialog = await hall.world.create(DialogType.DIRECT, ann, bo)
    listeners = [hall.listen(person) for person in (bo, cy)]
    hall.timelines.fault = ValueError("no such type of dialog")
    hall.deliver_as_of(dialog, 2, 1)
    hall.deliver_as_of(dialog, 3, 1)
    assert (await hall.rooms.open(dialog)).members == {}
    assert [(listener.seqs, listener.missed) for listener in listeners] == [([], [2])] * 2
    assert hall.rooms._waiting_bytes == 0
    hall.timelines.fault = None
    await hall.deliver(dialog, 4)
    await hall.rooms.wait_settled()
    assert listeners[0].seqs == [4]


async def test_a_roster_older_than_the_event_is_read_again(hall: Hall) -> None:
    """As a replica that lags would give it: a removed member must get nothing more (I7)."""
    ann, bo, cy = await hall.world.people(3)
    dialog = await hall.world.create(DialogType.GROUP, ann, bo, cy)
    gone, here = hall.listen(bo), hall.listen(cy)
    hall.timelines.stale = [await hall.world.timelines.read_roster(dialog)]
    await hall.world.act(bodies.MemberRemoved, dialog, ann, bo)
    await hall.deliver(dialog, 3)
    await hall.rooms.wait_settled()
    assert (gone.seqs, here.seqs, hall.timelines.reads) == ([], [3], 2)


async def test_a_roster_of_a_history_that_is_lost_is_not_awaited_without_end(hall: Hall) -> None:
    ann, bo = await hall.world.people(2)
    dialog = await hall.world.create(DialogType.DIRECT, ann, bo)
    listener = hall.listen(bo)
    hall.deliver_as_of(dialog, 9, roster_seq=9)
    async with asyncio.timeout(10):
        await hall.rooms.wait_settled()
    assert (listener.seqs, listener.missed, hall.rooms._waiting_bytes) == ([], [9], 0)


async def test_a_roster_that_a_new_epoch_does_not_have_is_awaited_no_longer(hall: Hall) -> None:
    """A standby that was promoted lacks the newest commits: what waits for them would wait, and hold positions."""
    ann, bo = await hall.world.people(2)
    dialog = await hall.world.create(DialogType.DIRECT, ann, bo)
    listener = hall.listen(bo)
    hall.timelines.gate = asyncio.Event()
    hall.deliver_as_of(dialog, 9, roster_seq=9)
    await until(lambda: hall.timelines.reads)
    hall.timelines.gate.set()
    hall.rooms.forget_rosters()
    async with asyncio.timeout(10):
        await hall.rooms.wait_settled()
    assert (listener.seqs, listener.missed, hall.rooms._waiting_bytes) == ([], [], 0)
    await hall.deliver(dialog, 2)
    await hall.rooms.wait_settled()
    assert listener.seqs == [2]


async def test_content_after_a_removal_that_the_room_did_not_see_waits_for_its_roster(hall: Hall) -> None:
    ann, bo, cy = await hall.world.people(3)
    dialog = await hall.world.create(DialogType.GROUP, ann, bo, cy)
    await hall.rooms.open(dialog)
    gone, here = hall.listen(bo), hall.listen(cy)
    await hall.world.act(bodies.MemberRemoved, dialog, ann, bo)
    await hall.deliver(dialog, 3)
    assert (gone.seqs, here.seqs) == ([], [])
    await hall.rooms.wait_settled()
    assert (gone.seqs, here.seqs) == ([], [3])


async def test_a_members_first_event_is_delivered_though_another_joined_after_them(hall: Hall) -> None:
    ann, bo, cy, di, ed = await hall.world.people(5)
    dialog = await hall.world.create(DialogType.GROUP, ann, bo, cy)
    first, second = hall.listen(di), hall.listen(ed)
    added = [(await hall.world.act(bodies.MembersAdded, dialog, ann, person)).verdict for person in (di, ed)]
    await hall.rooms.open(dialog)  # a roster that is newer than both events
    for verdict in added:
        hall.deliver_as_of(dialog, verdict.seq, verdict.roster_seq)
    assert (first.seqs, second.seqs) == ([2, 3], [3])


async def test_a_change_of_the_roster_is_applied_without_reading_it(hall: Hall) -> None:
    ann, bo, cy, di = await hall.world.people(4)
    result, dialog = await hall.world.try_create(DialogType.GROUP, ann, bo, cy)
    listeners = [hall.listen(person) for person in (bo, di)]
    await hall.route(result)
    await hall.route(await hall.world.act(bodies.MembersAdded, dialog, ann, di))
    await hall.route(await hall.world.act(bodies.MemberRemoved, dialog, ann, bo))
    await hall.deliver(dialog, 4)
    assert [listener.seqs for listener in listeners] == [[1, 2], [2, 3, 4]]
    assert hall.timelines.reads == 0


async def test_a_change_behind_an_event_that_the_room_did_not_see_is_not_applied(hall: Hall) -> None:
    ann, bo, cy, di = await hall.world.people(4)
    dialog = await hall.world.create(DialogType.GROUP, ann, bo, cy)
    room = await hall.rooms.open(dialog)
    await hall.world.act(bodies.MemberRemoved, dialog, ann, bo)
    await hall.route(await hall.world.act(bodies.MembersAdded, dialog, ann, di))
    await hall.rooms.wait_settled()
    assert room.members == (await hall.world.timelines.read_roster(dialog)).members
    assert hall.timelines.reads == 2


CHANGES: list[type[bodies.Body]] = [
    bodies.MembersAdded,
    bodies.MemberRemoved,
    bodies.MemberLeft,
    bodies.Promoted,
    bodies.Demoted,
]


@pytest.mark.parametrize("seed", range(4))
async def test_a_room_after_any_changes_equals_a_fresh_read(hall: Hall, seed: int) -> None:
    """Some events do not reach the room: then, and only then, the roster is read."""
    rng = random.Random(seed)
    people = await hall.world.people(7)
    result, dialog = await hall.world.try_create(DialogType.GROUP, *people[:3])
    await hall.route(result)
    lost = 0
    for _ in range(80):
        author, other = rng.sample(people, 2)
        kind: type[bodies.Body] = rng.choice(CHANGES)
        result = await hall.world.act(kind, dialog, author, *([] if kind is bodies.MemberLeft else [other]))
        reached = rng.random() < 0.9
        lost += not reached and bool(result.events)
        if reached:
            await hall.route(result)
            await hall.rooms.wait_settled()
        if reached and result.events:
            room, fresh = await hall.rooms.open(dialog), await hall.world.timelines.read_roster(dialog)
            assert (room.members, room.roster_seq, room.type) == (fresh.members, fresh.roster_seq, fresh.type)
    assert hall.timelines.reads <= lost


async def test_what_waits_for_all_rosters_is_bounded_in_bytes(hall: Hall, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms_module, "_WAITING_BYTES_MAX", 5)
    ann, bo, cy = await hall.world.people(3)
    listener = hall.listen(ann)
    hall.timelines.gate = asyncio.Event()
    for other in (bo, cy):
        dialog = await hall.world.create(DialogType.DIRECT, ann, other)
        for seq in (1, 2):  # of two bytes each
            hall.deliver_as_of(dialog, seq, 1)
    hall.timelines.gate.set()
    await hall.rooms.wait_settled()
    assert (listener.seqs, listener.missed, hall.rooms._waiting_bytes) == ([1, 2], [1], 0)


async def test_a_new_room_is_not_closed_to_make_place_for_itself(database_url: str) -> None:
    world = await World.open(database_url)
    hall = Hall(world, rooms_max=1)
    hall.timelines.gate = asyncio.Event()
    ann, bo, cy = await world.people(3)
    for other in (bo, cy):
        dialog = await world.create(DialogType.DIRECT, ann, other)
        await hall.deliver(dialog, 2)
        await hall.deliver(dialog, 3)
    hall.timelines.gate.set()
    await hall.rooms.wait_settled()
    assert hall.timelines.reads == 2
    await world.close()


async def test_what_waits_is_bounded_and_the_rest_is_caught_up(hall: Hall) -> None:
    ann, bo = await hall.world.people(2)
    dialog = await hall.world.create(DialogType.DIRECT, ann, bo)
    listener = hall.listen(bo)
    for seq in range(2, 1502):
        hall.deliver_as_of(dialog, seq, 1)
    await hall.rooms.wait_settled()
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
    prepared = PreparedMessage(HeartbeatReply())
    hall.rooms.deliver_ephemeral(dialog, prepared, but=ann.principal)
    await hall.rooms.open(dialog)
    hall.rooms.deliver_ephemeral(dialog, prepared, but=ann.principal)
    assert [listener.ephemeral_count for listener in listeners] == [0, 1]


async def test_a_receipt_is_delivered_though_its_room_is_closed_meanwhile(database_url: str) -> None:
    world = await World.open(database_url)
    hall = Hall(world, rooms_max=1)
    ann, bo, cy = await world.people(3)
    dialog, other = await world.create(DialogType.DIRECT, ann, bo), await world.create(DialogType.DIRECT, ann, cy)
    listeners = [hall.listen(person) for person in (ann, bo)]
    hall.timelines.gate = asyncio.Event()
    opening = asyncio.ensure_future(hall.rooms.open(dialog))
    await until(lambda: hall.timelines.reads)
    room = hall.rooms._rooms[dialog]
    hall.timelines.gate.set()
    await until(lambda: not room.loading)
    hall.deliver_as_of(other, 1, 1)
    assert dialog not in hall.rooms._rooms
    hall.rooms.deliver_receipt(await opening, dialog, bo.principal, PreparedMessage(HeartbeatReply()))
    assert [listener.receipts for listener in listeners] == [[(dialog, bo.principal)], []]
    await hall.rooms.wait_settled()
    await world.close()


async def test_who_was_removed_reads_what_was_delivered_without_them_and_their_removal_once(hall: Hall) -> None:
    ann, bo, cy, di = await hall.world.people(4)
    dialog = await hall.world.create(DialogType.GROUP, ann, bo, cy)
    gone = hall.listen(bo)
    await hall.deliver(dialog, 1)
    await hall.rooms.wait_settled()
    added = (await hall.world.act(bodies.MembersAdded, dialog, ann, di)).verdict
    [removal] = (await hall.world.act(bodies.MemberRemoved, dialog, ann, bo)).events
    hall.deliver_as_of(dialog, added.seq, added.roster_seq)
    await hall.rooms.wait_settled()
    assert (gone.seqs, gone.missed) == ([1], [added.seq]), "before the removal comes: no position may pass it"
    hall.rooms.deliver_last(removal, bo.principal)
    assert (gone.seqs, gone.missed) == ([1], [added.seq])
