"""Small pages that are asked for at the same moment are one statement, and each asker gets its own page, whole."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from protocol.dialog_types import DialogType
from storage.postgres.event_windows import EventWindows, Ranges
from storage.timelines import PAGE_BYTES_MAX
from tests.support.filling import add_messages
from tests.support.world import Person, World, message

pytestmark = pytest.mark.anyio


class Asked:
    """Windows over the database of a world, and the rows of each statement."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.rows: list[int] = []
        self.windows = EventWindows(self._fetch)

    async def _fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        found: list[asyncpg.Record] = await self._world.pool.fetch(query, *arguments)
        self.rows.append(len(found))
        return found

    async def read(self, *asked: tuple[Person, Ranges], limit: int = 99) -> list[list[tuple[bytes, int]]]:
        """What each gets, when all ask in one turn of the loop."""
        pages = (self.windows.read(person.principal, ranges, limit=limit) for person, ranges in asked)
        return [[(event.dialog, event.seq) for event in page] for page in await asyncio.gather(*pages)]


async def test_each_asker_gets_its_own_of_one_statement(world: World) -> None:
    """Within its own limit, and nothing of a dialog that it is not in."""
    ann, bo, cy = await world.people(3)
    first = await world.create(DialogType.DIRECT, ann, bo)
    second = await world.create(DialogType.DIRECT, ann, cy)
    await add_messages(world.pool, first, bo, 5)
    asked = Asked(world)
    of_ann: Ranges = [(second, 1, 9), (first, 4, 9)]
    pages = await asked.read((ann, of_ann), (bo, [(first, 1, 9), (second, 1, 9)]), (cy, [(first, 1, 9)]), limit=2)
    assert pages == [[(second, 1), (first, 4), (first, 5)], [(first, 1), (first, 2)], []]
    assert asked.rows == [5]


async def test_pages_of_other_limits_are_other_statements(world: World) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    await add_messages(world.pool, dialog, bo, 5)
    asked = Asked(world)
    wanted = [(person, limit) for limit in (2, 4) for person in (ann, bo)]
    pages = await asyncio.gather(
        *(asked.windows.read(person.principal, [(dialog, 1, 9)], limit=limit) for person, limit in wanted)
    )
    assert [len(page) for page in pages] == [2, 2, 4, 4]
    assert asked.rows == [4, 8]


async def test_a_page_that_those_of_others_cut_is_read_again(world: World) -> None:
    """A statement is as large as one page may be."""
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    await world.flush(*(message(dialog, ann, "x" * (PAGE_BYTES_MAX // 4)) for _ in range(5)))
    asked = Asked(world)
    ranges: list[Ranges] = [[(dialog, 2, 3)], [(dialog, 2, 4)], [(dialog, 1, 9)], [(dialog, 6, 6)]]
    pages = await asked.read(*zip((ann, bo, ann, bo), ranges, strict=True))
    assert [[seq for _, seq in page] for page in pages] == [[2, 3], [2, 3, 4], [1, 2, 3, 4, 5], [6]]
    assert asked.rows == [4, 5, 5, 1]


async def test_a_large_page_waits_for_nobody(world: World) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    await add_messages(world.pool, dialog, bo, 200)
    asked = Asked(world)
    pages = await asked.read((ann, [(dialog, 1, 1)]), (ann, [(dialog, 1, 200)]), (bo, [(dialog, 2, 2)]), limit=150)
    assert [len(page) for page in pages] == [1, 150, 1]
    assert sorted(asked.rows) == [2, 150]
