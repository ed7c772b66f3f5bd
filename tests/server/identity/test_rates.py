"""Rates of a node: bounded in memory, in the forms that settings give, and judged alone while the others' are away."""

import asyncio
from collections.abc import Sequence

import pytest

from protocol.errors import ErrorCode
from server.identity.rates import MemoryRateLimiter, SharedRateLimiter, take_or_refuse
from server.refusals import RequestRefusedError
from storage.rates import Bucket, Rate, RateLimiter
from storage.unavailable import StorageUnavailableError
from tests.support.clock import ManualClock

pytestmark = pytest.mark.anyio

FIVE = Rate.per_hour("five", 5)
TWO = Rate.per_hour("two", 2)


@pytest.fixture
def limiter(clock: ManualClock) -> RateLimiter:
    return MemoryRateLimiter(clock)


async def test_a_refusal_says_how_long_to_wait(limiter: RateLimiter) -> None:
    await take_or_refuse(limiter, [(TWO, "a"), (TWO, "b")])
    await take_or_refuse(limiter, [(TWO, "a")])
    with pytest.raises(RequestRefusedError) as refused:
        await take_or_refuse(limiter, [(TWO, "a")])
    assert refused.value.code is ErrorCode.RATE_LIMITED
    assert refused.value.retry_after_s == pytest.approx(1800)


async def test_memory_is_bounded_and_full_buckets_are_forgotten(clock: ManualClock) -> None:
    limiter = MemoryRateLimiter(clock, keys_max=100)
    await asyncio.gather(*(limiter.take([(FIVE, str(at))]) for at in range(1000)))
    assert len(limiter._full_at["five"]) == 100
    clock.advance(3600)
    await limiter.take([(FIVE, "new")])
    assert list(limiter._full_at["five"]) == ["new"]


async def test_slow_rates_let_at_least_one_through(limiter: RateLimiter) -> None:
    assert await limiter.take([(Rate.per_second("slow", 0.1), "a")]) == 0
    assert await limiter.take([(Rate.per_second("slow", 0.1), "a")]) == pytest.approx(10)


async def test_an_even_rate_lets_a_tenth_through_at_once(limiter: RateLimiter, clock: ManualClock) -> None:
    even = Rate.per_hour_evenly("even", 20)
    assert [await limiter.take([(even, "a")]) for _ in range(3)] == [0, 0, pytest.approx(180)]
    clock.advance(180)
    assert await limiter.take([(even, "a")]) == 0


async def test_a_rate_per_day_refills_over_a_day(limiter: RateLimiter) -> None:
    two = Rate.per_day("two a day", 2)
    assert [await limiter.take([(two, "a")]) for _ in range(3)] == [0, 0, pytest.approx(43_200)]


class OfAll(MemoryRateLimiter):
    """The counts of all nodes, which can be away."""

    away = False

    async def take(self, buckets: Sequence[Bucket], *, cost: int = 1) -> float:
        if self.away:
            raise StorageUnavailableError
        return await super().take(buckets, cost=cost)

    async def give_back(self, buckets: Sequence[Bucket], *, cost: int = 1) -> None:
        if self.away:
            raise StorageUnavailableError
        await super().give_back(buckets, cost=cost)


async def test_nodes_count_together(clock: ManualClock) -> None:
    common = OfAll(clock)
    one, two = [SharedRateLimiter(common, MemoryRateLimiter(clock)) for _ in range(2)]
    assert [await node.take([(TWO, "a")]) > 0 for node in (one, two, one, two)] == [False, False, True, True]
    await one.give_back([(TWO, "a")])
    assert await two.take([(TWO, "a")]) == 0
    assert (one.judged_alone, two.judged_alone) == (0, 0)


async def test_while_the_common_counts_are_away_each_node_judges_alone(clock: ManualClock) -> None:
    common = OfAll(clock)
    one, two = [SharedRateLimiter(common, MemoryRateLimiter(clock)) for _ in range(2)]
    common.away = True
    assert [await one.take([(TWO, "a")]) > 0 for _ in range(3)] == [False, False, True]
    await one.give_back([(TWO, "a")])
    assert [await one.take([(TWO, "a")]) > 0 for _ in range(2)] == [False, True]
    assert await two.take([(TWO, "a")]) == 0
    assert (one.judged_alone, two.judged_alone) == (5, 1)
