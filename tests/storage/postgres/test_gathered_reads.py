"""Reads that wait at the same moment are one read; what is wrong with one harms no other."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from storage.postgres.gathered_reads import GatheredReads

pytestmark = pytest.mark.anyio


async def turns(count: int) -> None:
    """Let the loop turn so often."""
    for _ in range(count):
        await asyncio.sleep(0)


class Store:
    """Answers when `gate` is set, and refuses a read of what is `bad`."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.bad = -1
        self.asked: list[list[int]] = []

    async def read_all(self, asked: Sequence[int]) -> list[int]:
        self.asked.append(list(asked))
        await self.gate.wait()
        if self.bad in asked:
            raise ValueError(self.bad)
        return [10 * each for each in asked]


async def begin(reads: GatheredReads[int, int], numbers: Sequence[int]) -> list[asyncio.Task[int]]:
    """Ask for each, one after another in one turn of the loop."""
    tasks = [asyncio.ensure_future(reads.read(number)) for number in numbers]
    await turns(3)
    return tasks


async def test_what_is_asked_in_one_turn_is_one_read() -> None:
    store = Store()
    store.gate.set()
    reads = GatheredReads(store.read_all, size_max=9, crowd=9)
    assert await asyncio.gather(*map(reads.read, range(4))) == [0, 10, 20, 30]
    assert store.asked == [[0, 1, 2, 3]]


async def test_who_asks_while_a_read_is_under_way_waits_for_the_next_one() -> None:
    """The read under way may have begun before what the asker must see."""
    store = Store()
    reads = GatheredReads(store.read_all, size_max=9, crowd=99)
    tasks = await begin(reads, [0])
    tasks += await begin(reads, [1])
    tasks += await begin(reads, [2])
    assert store.asked == [[0]]
    store.gate.set()
    assert await asyncio.gather(*tasks) == [0, 10, 20]
    assert store.asked == [[0], [1, 2]]


async def test_who_asks_again_as_soon_as_it_has_its_answer_gets_another() -> None:
    store = Store()
    store.gate.set()
    reads = GatheredReads(store.read_all, size_max=9, crowd=99)
    async with asyncio.timeout(20):
        assert [await reads.read(1), await reads.read(2)] == [10, 20]


async def test_a_crowd_does_not_wait_for_a_read_that_is_slow() -> None:
    store = Store()
    reads = GatheredReads(store.read_all, size_max=9, crowd=3)
    tasks = await begin(reads, [0])
    tasks += await begin(reads, [1, 2, 3])
    tasks += await begin(reads, [4, 5, 6])
    assert store.asked == [[0], [1, 2, 3]]
    store.gate.set()
    assert await asyncio.gather(*tasks) == [10 * each for each in range(7)]


async def test_a_read_is_bounded_and_in_the_order_of_asking() -> None:
    store = Store()
    reads = GatheredReads(store.read_all, size_max=3, crowd=99)
    tasks = await begin(reads, range(8))
    store.gate.set()
    assert await asyncio.gather(*tasks) == [10 * each for each in range(8)]
    assert store.asked == [[0, 1, 2], [3, 4, 5], [6, 7]]


async def test_when_a_read_of_several_fails_each_is_read_alone() -> None:
    store = Store()
    store.bad = 1
    reads = GatheredReads(store.read_all, size_max=9, crowd=99)
    tasks = await begin(reads, [0, 1, 2])
    store.gate.set()
    with pytest.raises(ValueError, match="1"):
        await tasks[1]
    assert [await tasks[0], await tasks[2]] == [0, 20]
    assert store.asked == [[0, 1, 2], [0], [1], [2]]
    assert await reads.read(3) == 30


async def test_who_is_cancelled_while_it_waits_is_not_read_for() -> None:
    store = Store()
    reads = GatheredReads(store.read_all, size_max=9, crowd=99)
    under_way = await begin(reads, [0])
    waiting = await begin(reads, [1, 2, 3])
    waiting[1].cancel()
    under_way[0].cancel()
    await turns(3)
    store.gate.set()
    assert [await waiting[0], await waiting[2]] == [10, 30]
    assert store.asked == [[0], [1, 3]]


async def test_many_answers_are_given_over_several_turns() -> None:
    store = Store()
    reads = GatheredReads(store.read_all, size_max=40, crowd=99)
    tasks = await begin(reads, range(40))
    store.gate.set()
    await turns(4)
    assert 0 < sum(task.done() for task in tasks) < 40
    await asyncio.gather(*tasks)
