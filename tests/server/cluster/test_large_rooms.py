"""Rooms of large dialogs: registered before a session's snapshot, told to nobody else, and nothing is missed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from protocol import bodies as b
from storage.bus import ConnectionKey
from storage.rows import DialogRoster, WrittenRow
from tests.server.cluster import large_deployment
from tests.server.cluster.large_deployment import PEOPLE, READER, LargeDeployment, Reader, Timeline

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("large_rooms", "publisher"):
        monkeypatch.setattr(f"server.cluster.{module}.LARGE_ABOVE", large_deployment.LARGE_ABOVE)
    monkeypatch.setattr("server.cluster.large_rooms._KEPT_EMPTY_S", 0.0)


class Place:
    """The reading node, and a dialog that its next member makes large; `reads` counts the rosters that were read."""

    def __init__(self, deployment: LargeDeployment, monkeypatch: pytest.MonkeyPatch) -> None:
        self.deployment, self.monkeypatch = deployment, monkeypatch
        self.timeline: Timeline = next(iter(deployment.dialogs.values()))
        self.dialog, self.member = self.timeline.dialog, next(iter(self.timeline.members))
        self.reads = 0
        read_roster = deployment.read_roster

        async def count(dialog: bytes) -> DialogRoster:
            self.reads += 1
            return await read_roster(dialog)

        monkeypatch.setattr(deployment, "read_roster", count)

    async def arrive(self, who: bytes) -> Reader:
        reader = Reader(who, self.deployment.dialogs)
        self.deployment.registry.attach(reader)
        await self.deployment.large.arrive(reader, who)
        return reader

    def commit(self, body: b.Body | None = None) -> WrittenRow:
        self.deployment.next_stamp += 1
        return self.timeline.commit(1, body, self.deployment.next_stamp)[0]

    def grow(self) -> WrittenRow:
        return self.commit(b.MembersAdded([next(who for who in PEOPLE if who not in self.timeline.members)]))

    def take(self, row: WrittenRow) -> None:
        self.deployment.resequencer.take(row.event, row.roster_seq)

    async def settle(self) -> None:
        await self.deployment.resequencer.wait_settled()
        await self.deployment.large.wait_settled()
        await self.deployment.resequencer.wait_settled()
        await self.deployment.rooms.wait_settled()

    async def nodes_of(self, *ids: bytes) -> list[list[int]]:
        return (await self.deployment.store.locate(ids)).nodes


@pytest.fixture
async def place(monkeypatch: pytest.MonkeyPatch) -> Place:
    deployment = LargeDeployment(0)
    await deployment.whereabouts.check()
    await deployment.peers.look()
    return Place(deployment, monkeypatch)


@pytest.mark.parametrize("first_seed", range(0, 96, 12))
async def test_no_position_is_past_what_is_due_and_all_of_it_comes(first_seed: int) -> None:
    looks_whole = 0
    for seed in range(first_seed, first_seed + 12):
        deployment = LargeDeployment(seed)
        await deployment.run(600)
        looks_whole += deployment.looks_whole
    assert looks_whole > 0


async def test_a_sync_goes_on_when_its_connection_and_then_its_rooms_are_written(place: Place) -> None:
    place.grow()
    find_large, put, before = place.deployment.find_large, place.deployment.store.put, []

    async def put_late(keys: Sequence[ConnectionKey]) -> str:
        for _ in range(50):
            await asyncio.sleep(0)
        return await put(keys)

    async def look(principal: bytes, **page: Any) -> list[bytes]:
        before.append(await place.nodes_of(principal, place.dialog))
        return await find_large(principal, **page)

    place.monkeypatch.setattr(place.deployment, "find_large", look)
    place.monkeypatch.setattr(place.deployment.store, "put", put_late)
    await place.arrive(place.member)
    assert before == [[[READER], []]]
    assert list(place.deployment.whereabouts._registered) == [place.dialog]
    assert await place.nodes_of(place.dialog) == [[READER]]


async def test_positions_wait_until_what_went_past_this_node_is_read(place: Place) -> None:
    reader, gate, read_rows = await place.arrive(place.member), asyncio.Event(), place.deployment.read_rows

    async def held_back(dialog: bytes, first: int, last: int) -> list[WrittenRow]:
        await gate.wait()
        return await read_rows(dialog, first, last)

    place.monkeypatch.setattr(place.deployment, "read_rows", held_back)
    grown, unheard = place.grow(), place.commit()
    reader.due = {(place.dialog, row.event.seq): row.stamp for row in (grown, unheard)}
    place.take(grown)
    settled = asyncio.ensure_future(place.settle())
    for _ in range(100):
        await asyncio.sleep(0)
    assert not settled.done()
    gate.set()
    await settled
    assert reader.due == {}
    assert await place.nodes_of(place.dialog) == [[READER]]


async def test_no_roster_of_a_large_dialog_is_read_for_nobody(place: Place) -> None:
    await place.arrive(next(who for who in PEOPLE[::-1] if who not in place.timeline.members))
    place.timeline.members |= dict.fromkeys(PEOPLE[:4], 1)
    place.timeline.large |= set(place.timeline.members)
    place.take(place.commit())
    await place.settle()
    assert (place.reads, len(place.deployment.rooms)) == (0, 0)
    reader, row = await place.arrive(place.member), place.commit()
    reader.due = {(place.dialog, row.event.seq): row.stamp}
    place.take(row)
    await place.settle()
    assert (place.reads, reader.due) == (1, {})


async def test_an_event_before_the_dialog_became_large_is_delivered(place: Place) -> None:
    reader, row = await place.arrive(place.member), place.commit()
    reader.due = {(place.dialog, row.event.seq): row.stamp}
    place.grow()  # which has not come here
    place.take(row)
    await place.settle()
    assert reader.due == {}


async def test_a_room_stays_registered_for_a_while_after_the_last_session_has_left(place: Place) -> None:
    place.monkeypatch.setattr("server.cluster.large_rooms._KEPT_EMPTY_S", 60.0)
    place.grow()
    readers = [await place.arrive(who) for who in list(place.timeline.members)[:2]]
    for reader in readers:
        place.deployment.clock.advance(100.0)
        place.deployment.large.drop_empty()
        assert await place.nodes_of(place.dialog) == [[READER]]
        place.deployment.registry.detach(reader)
    place.deployment.clock.advance(59.0)
    place.deployment.large.drop_empty()
    assert (await place.nodes_of(place.dialog), len(place.deployment.large)) == ([[READER]], 1)
    place.deployment.clock.advance(1.0)
    place.deployment.large.drop_empty()
    assert (await place.nodes_of(place.dialog), len(place.deployment.large)) == ([[]], 0)
