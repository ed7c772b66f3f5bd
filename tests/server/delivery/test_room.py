"""A room: who of its members is here, while they come and go."""

from __future__ import annotations

import gc
import weakref
from collections.abc import AsyncIterator

import pytest

from protocol import bodies
from protocol.dialog_types import DialogType
from protocol.ids import new_id
from server.delivery import room as room_module
from tests.server.delivery.hall import Hall
from tests.support.world import Person, World

pytestmark = pytest.mark.anyio

LISTED = room_module._UNLISTED_MAX + 1
"""So many members make a room that lists those who are here."""


@pytest.fixture
async def hall(database_url: str) -> AsyncIterator[Hall]:
    world = await World.open(database_url)
    yield Hall(world)
    await world.close()


@pytest.mark.parametrize("size", [3, LISTED])
async def test_who_comes_goes_and_returns_gets_what_is_delivered_meanwhile(hall: Hall, size: int) -> None:
    people = await hall.world.people(size)
    dialog = await hall.world.create(DialogType.GROUP, *people)
    steady, first = hall.listen(people[0]), hall.listen(people[1])
    await hall.deliver(dialog, 2)
    await hall.rooms.wait_settled()
    second = hall.listen(people[1])
    await hall.deliver(dialog, 3)
    hall.registry.detach(first)
    await hall.deliver(dialog, 4)
    hall.registry.detach(second)
    await hall.deliver(dialog, 5)
    third = hall.listen(people[1])
    await hall.deliver(dialog, 6)
    assert [each.seqs for each in (first, second, third, steady)] == [[2, 3], [3, 4], [6], [2, 3, 4, 5, 6]]


async def test_members_who_join_and_leave_a_listed_room_are_found(hall: Hall) -> None:
    ann, bo, cy, *others = await hall.world.people(LISTED + 2)
    dialog = await hall.world.create(DialogType.GROUP, ann, *others)
    here = [hall.listen(person) for person in (ann, bo, cy)]
    await hall.deliver(dialog, 1)
    await hall.rooms.wait_settled()
    for body, who in ((bodies.MembersAdded, bo), (bodies.MembersAdded, cy), (bodies.MemberRemoved, bo)):
        await hall.route(await hall.world.act(body, dialog, ann, who))
    assert [each.seqs for each in here] == [[1, 2, 3, 4], [2, 3], [3, 4]]
    assert hall.timelines.reads == 1


async def test_a_connect_costs_a_listed_room_no_look_at_every_member(
    hall: Hall, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = await hall.world.people(LISTED)
    dialog = await hall.world.create(DialogType.GROUP, *people)
    await hall.deliver(dialog, 1)
    await hall.rooms.wait_settled()
    monkeypatch.setattr(hall.registry, "find_present", None)
    for seq in range(2, LISTED):
        here = [hall.listen(person) for person in people[1:seq]]
        await hall.deliver(dialog, seq)
        assert [each.seqs for each in here] == [[seq]] * len(here)
        for each in here:
            hall.registry.detach(each)


async def test_after_more_came_and_went_than_a_room_follows_it_lists_its_members_anew(hall: Hall) -> None:
    people = await hall.world.people(LISTED)
    dialog = await hall.world.create(DialogType.GROUP, *people)
    await hall.deliver(dialog, 1)
    await hall.rooms.wait_settled()
    for person in people:
        hall.registry.detach(hall.listen(person))
    listener = hall.listen(people[1])
    for _ in range(LISTED):
        hall.listen(Person(new_id()))
    await hall.deliver(dialog, 2)
    assert listener.seqs == [2]
    [room] = hall.rooms._rooms.values()
    assert list(room._present) == [people[1].principal], "nothing is left of who went"


@pytest.mark.parametrize("size", [3, LISTED])
async def test_a_quiet_room_keeps_nobody_who_left(hall: Hall, size: int) -> None:
    people = await hall.world.people(size)
    dialog = await hall.world.create(DialogType.GROUP, *people)
    listener = hall.listen(people[1])
    await hall.deliver(dialog, 2)
    await hall.rooms.wait_settled()
    hall.registry.detach(listener)
    left = weakref.ref(listener)
    del listener
    gc.collect()
    assert left() is None
