"""Rates: so much at once, then so much in time, bounded in memory."""

import asyncio

import pytest

from protocol.errors import ErrorCode
from server.identity.rates import MemoryRateLimiter, Rate, RateLimiter, take_or_refuse
from server.refusals import RequestRefusedError
from tests.support.clock import ManualClock

pytestmark = pytest.mark.anyio

FIVE = Rate.per_hour("five", 5)
TWO = Rate.per_hour("two", 2)


@pytest.fixture
def limiter(clock: ManualClock) -> RateLimiter:
    return MemoryRateLimiter(clock)


async def test_a_burst_is_let_through_and_then_one_at_a_time(limiter: RateLimiter, clock: ManualClock) -> None:
    assert [await limiter.take([(FIVE, "a")]) for _ in range(6)] == [0, 0, 0, 0, 0, pytest.approx(720)]
    clock.advance(719)
    assert await limiter.take([(FIVE, "a")]) == pytest.approx(1)
    clock.advance(1)
    assert await limiter.take([(FIVE, "a")]) == 0
    assert await limiter.take([(FIVE, "a")]) > 0


async def test_what_costs_more_takes_more_and_at_most_a_full_bucket(limiter: RateLimiter, clock: ManualClock) -> None:
    assert await limiter.take([(FIVE, "a")], cost=3) == 0
    assert await limiter.take([(FIVE, "a")], cost=3) == pytest.approx(720)
    await limiter.give_back([(FIVE, "a")], cost=3)
    assert await limiter.take([(FIVE, "a")], cost=99) == 0
    assert await limiter.take([(FIVE, "a")]) == pytest.approx(720)
    await limiter.give_back([(FIVE, "a")], cost=99)
    assert await limiter.take([(FIVE, "a")], cost=99) == 0
    clock.advance(3_599)
    assert await limiter.take([(FIVE, "a")], cost=99) == pytest.approx(1)


async def test_keys_and_rates_do_not_share(limiter: RateLimiter) -> None:
    for _ in range(5):
        await limiter.take([(FIVE, "a")])
    assert await limiter.take([(FIVE, "b")]) == 0
    assert await limiter.take([(TWO, "a")]) == 0
    assert await limiter.take([(FIVE, b"a")]) == 0


async def test_one_of_each_or_none(limiter: RateLimiter) -> None:
    both = [(FIVE, "number"), (TWO, "address")]
    assert [await limiter.take(both) > 0 for _ in range(4)] == [False, False, True, True]
    assert [await limiter.take([(FIVE, "number")]) > 0 for _ in range(4)] == [False, False, False, True]


async def test_what_was_given_back_can_be_taken_again(limiter: RateLimiter) -> None:
    for _ in range(20):
        assert await limiter.take([(TWO, "a")]) == 0
        await limiter.give_back([(TWO, "a")])
    await limiter.give_back([(TWO, "never taken")])


async def test_giving_back_saves_nothing_up(limiter: RateLimiter, clock: ManualClock) -> None:
    await limiter.take([(TWO, "a")])
    clock.advance(100_000)
    await limiter.give_back([(TWO, "a")])
    assert [await limiter.take([(TWO, "a")]) > 0 for _ in range(3)] == [False, False, True]


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
