"""Pages that many catch up on at once: read once, never with more than who asks may have, and not kept for long."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from protocol.bodies import TimelineEventRaw
from protocol.dialog_types import DialogType
from server.session import shared_pages as module
from server.session.shared_pages import SharedPages
from storage.postgres.timelines import PostgresTimelines
from storage.unavailable import StorageUnavailableError
from tests.support.clock import ManualClock
from tests.support.filling import add_messages
from tests.support.world import Person, World

pytestmark = pytest.mark.anyio

PAGE_EVENTS = 50


class CountedTimelines(PostgresTimelines):
    """Counts reads of events; the next ones fail or lack a number."""

    def __init__(self, world: World) -> None:
        super().__init__(world.pool)
        self.asked: list[tuple[int, int]] = []
        self.failing = 0
        self.lacks = 0

    async def read_events(
        self, principal: bytes, ranges: Sequence[tuple[bytes, int, int]], *, limit: int
    ) -> list[TimelineEventRaw]:
        self.asked += [(first, last) for _, first, last in ranges]
        events = await super().read_events(principal, ranges, limit=limit)
        if self.failing:
            self.failing -= 1
            raise StorageUnavailableError("injected")
        return [event for event in events if event.seq != self.lacks]


class Readers:
    """Two members of one dialog of 201 events, and the pages that they share."""

    def __init__(self, world: World, people: Sequence[Person], dialog: bytes) -> None:
        self.clock = ManualClock()
        self.timelines = CountedTimelines(world)
        self.pages = SharedPages(self.timelines, self.clock, page_events=PAGE_EVENTS)
        self.people = people
        self.dialog = dialog

    async def read(self, who: int, first: int, last: int) -> list[int]:
        page = await self.pages.read(self.people[who].principal, self.dialog, first, last)
        assert page.get_joined(text=False) == b"".join(page.get_frames(text=False))
        return [event.seq for event in page.events]


@pytest.fixture
async def readers(world: World) -> Readers:
    people = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, *people)
    await add_messages(world.pool, dialog, people[0], 200)
    return Readers(world, people, dialog)


async def test_those_who_ask_at_once_share_one_read(readers: Readers) -> None:
    got = await asyncio.gather(*(readers.read(each % 2, 11, 201) for each in range(10)))
    assert got == [list(range(11, 61))] * 10
    assert readers.timelines.asked == [(11, 201)]


async def test_who_asks_for_less_gets_no_more_than_that(readers: Readers) -> None:
    await readers.read(0, 11, 201)
    assert await readers.read(1, 20, 30) == list(range(20, 31))
    assert await readers.read(1, 55, 201) == list(range(55, 61))
    assert await readers.read(1, 61, 70) == list(range(61, 71))
    assert readers.timelines.asked == [(11, 201), (61, 70)]


async def test_a_part_of_a_page_has_the_frames_of_its_events(readers: Readers) -> None:
    whole = await readers.pages.read(readers.people[0].principal, readers.dialog, 11, 201)
    frames = whole.get_frames(text=False)
    part = await readers.pages.read(readers.people[1].principal, readers.dialog, 20, 30)
    assert all(one is other for one, other in zip(part.get_frames(text=False), frames[9:20], strict=True))


async def test_a_page_is_not_kept_for_long_nor_when_nobody_catches_up(readers: Readers) -> None:
    await readers.read(0, 11, 201)
    readers.clock.advance(module._KEPT_S)
    await readers.read(1, 11, 201)
    readers.pages.forget()
    await readers.read(1, 11, 201)
    assert readers.timelines.asked == [(11, 201)] * 3


async def test_only_so_many_pages_are_kept(readers: Readers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_KEPT_MAX", 2)
    for first in (1, 51, 101, 51):
        await readers.read(0, first, 201)
    assert (len(readers.pages), len(readers.timelines.asked)) == (2, 3)
    await readers.read(0, 1, 201)
    assert len(readers.timelines.asked) == 4


async def test_a_page_that_lacks_a_number_is_not_shared(readers: Readers) -> None:
    readers.timelines.lacks = 20
    assert 20 not in await readers.read(0, 11, 201)
    readers.timelines.lacks = 0
    assert await readers.read(1, 11, 201) == list(range(11, 61))


async def test_a_failed_or_cancelled_read_is_that_of_who_asked_alone(readers: Readers) -> None:
    readers.timelines.failing = 1
    got = await asyncio.gather(*(readers.read(0, 11, 201) for _ in range(3)), return_exceptions=True)
    assert [type(each) for each in got] == [StorageUnavailableError, list, list]
    readers.pages.forget()
    first, second = (asyncio.ensure_future(readers.read(each, 11, 201)) for each in (0, 1))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == list(range(11, 61))


async def test_an_empty_answer_leaves_nothing_behind(readers: Readers) -> None:
    assert await readers.read(0, 202, 300) == []
    assert not readers.pages._shelves
