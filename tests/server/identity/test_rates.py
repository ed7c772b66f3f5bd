"""Rates: so much at once, then so much in time, bounded in memory."""

import asyncio

import pytest

from protocol.errors import ErrorCode
from server.identity.rates import Limits, MemoryLimits, Rate, take_or_refuse
from server.refusals import RequestRefusedError
from tests.support.clock import ManualClock

pytestmark = pytest.mark.anyio

FIVE = Rate.per_hour("five", 5)
TWO = Rate.per_hour("two", 2)


@pytest.fixture
def limits(clock: ManualClock) -> Limits:
    return MemoryLimits(clock)


async def test_a_burst_is_let_through_and_then_one_at_a_time(limits: Limits, clock: ManualClock) -> None:
    assert [await limits.take([(FIVE, "a")]) for _ in range(6)] == [0, 0, 0, 0, 0, pytest.approx(720)]
    clock.advance(719)
    assert await limits.take([(FIVE, "a")]) == pytest.approx(1)
    clock.advance(1)
    assert await limits.take([(FIVE, "a")]) == 0
    assert await limits.take([(FIVE, "a")]) > 0


async def test_keys_and_rates_do_not_share(limits: Limits) -> None:
    for _ in range(5):
        await limits.take([(FIVE, "a")])
    assert await limits.take([(FIVE, "b")]) == 0
    assert await limits.take([(TWO, "a")]) == 0
    assert await limits.take([(FIVE, b"a")]) == 0


async def test_one_of_each_or_none(limits: Limits) -> None:
    both = [(FIVE, "number"), (TWO, "address")]
    assert [await limits.take(both) > 0 for _ in range(4)] == [False, False, True, True]
    assert [await limits.take([(FIVE, "number")]) > 0 for _ in range(4)] == [False, False, False, True]


async def test_what_was_given_back_can_be_taken_again(limits: Limits) -> None:
    for _ in range(20):
        assert await limits.take([(TWO, "a")]) == 0
        await limits.give_back([(TWO, "a")])
    await limits.give_back([(TWO, "never taken")])


async def test_giving_back_saves_nothing_up(limits: Limits, clock: ManualClock) -> None:
    await limits.take([(TWO, "a")])
    clock.advance(100_000)
    await limits.give_back([(TWO, "a")])
    assert [await limits.take([(TWO, "a")]) > 0 for _ in range(3)] == [False, False, True]


async def test_a_refusal_says_how_long_to_wait(limits: Limits) -> None:
    await take_or_refuse(limits, [(TWO, "a"), (TWO, "b")])
    await take_or_refuse(limits, [(TWO, "a")])
    with pytest.raises(RequestRefusedError) as refused:
        await take_or_refuse(limits, [(TWO, "a")])
    assert refused.value.code is ErrorCode.RATE_LIMITED
    assert refused.value.retry_after_s == pytest.approx(1800)


async def test_memory_is_bounded_and_full_buckets_are_forgotten(clock: ManualClock) -> None:
    limits = MemoryLimits(clock, keys_max=100)
    await asyncio.gather(*(limits.take([(FIVE, str(at))]) for at in range(1000)))
    assert len(limits._full_at["five"]) == 100
    clock.advance(3600)
    await limits.take([(FIVE, "new")])
    assert list(limits._full_at["five"]) == ["new"]


async def test_slow_rates_let_at_least_one_through(limits: Limits) -> None:
    assert await limits.take([(Rate.per_second("slow", 0.1), "a")]) == 0
    assert await limits.take([(Rate.per_second("slow", 0.1), "a")]) == pytest.approx(10)
