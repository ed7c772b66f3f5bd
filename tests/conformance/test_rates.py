"""What every counter of rates promises: so much at once, then so much in time, all buckets of a call or none.

And what a store of buckets promises: what each node took is added up, and ends by itself.
"""

from __future__ import annotations

import asyncio

import pytest

from storage.rates import BucketStore, Rate, RateLimiter
from tests.conformance.conftest import LetTimePass

pytestmark = pytest.mark.anyio

FIVE = Rate.per_hour("five", 5)
TWO = Rate.per_hour("two", 2)


def about(seconds: float) -> object:
    """Redis's clock goes on while a test runs."""
    return pytest.approx(seconds, abs=20)


async def test_a_burst_is_let_through_and_then_one_at_a_time(limiter: RateLimiter, let_time_pass: LetTimePass) -> None:
    assert [await limiter.take([(FIVE, "a")]) for _ in range(6)] == [0, 0, 0, 0, 0, about(720)]
    await let_time_pass(600)
    assert await limiter.take([(FIVE, "a")]) == about(120)
    await let_time_pass(120)
    assert await limiter.take([(FIVE, "a")]) == 0
    assert await limiter.take([(FIVE, "a")]) > 0


async def test_what_costs_more_takes_more_and_at_most_a_full_bucket(
    limiter: RateLimiter, let_time_pass: LetTimePass
) -> None:
    assert await limiter.take([(FIVE, "a")], cost=3) == 0
    assert await limiter.take([(FIVE, "a")], cost=3) == about(720)
    await limiter.give_back([(FIVE, "a")], cost=3)
    assert await limiter.take([(FIVE, "a")], cost=99) == 0
    assert await limiter.take([(FIVE, "a")]) == about(720)
    await limiter.give_back([(FIVE, "a")], cost=99)
    assert await limiter.take([(FIVE, "a")], cost=99) == 0
    await let_time_pass(3_500)
    assert await limiter.take([(FIVE, "a")], cost=99) == about(100)


async def test_as_many_are_let_through_as_the_rate_says_whatever_does_not_divide(limiter: RateLimiter) -> None:
    eleven = Rate.per_day("eleven", 11)
    assert [await limiter.take([(eleven, "a")]) > 0 for _ in range(12)] == [False] * 11 + [True]


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


async def test_of_those_who_ask_at_once_no_more_get_it_than_there_is(limiter: RateLimiter) -> None:
    waits = await asyncio.gather(*(limiter.take([(FIVE, "a"), (TWO, str(at))]) for at in range(20)))
    assert sum(wait_s == 0 for wait_s in waits) == 5


async def test_what_was_given_back_can_be_taken_again(limiter: RateLimiter) -> None:
    for _ in range(20):
        assert await limiter.take([(TWO, "a")]) == 0
        await limiter.give_back([(TWO, "a")])
    await limiter.give_back([(TWO, "never taken")])


async def test_giving_back_saves_nothing_up(limiter: RateLimiter, let_time_pass: LetTimePass) -> None:
    await limiter.take([(TWO, "a")])
    await let_time_pass(100_000)
    await limiter.give_back([(TWO, "a")])
    assert [await limiter.take([(TWO, "a")]) > 0 for _ in range(3)] == [False, False, True]


async def test_what_nodes_take_of_a_bucket_is_added_up(buckets: BucketStore) -> None:
    keys = [bytes([number]) * 17 for number in range(20)]
    first = await buckets.add_taken([(key, 100.0 + at, 1_000.0) for at, key in enumerate(keys)])
    assert first == [about(100 + at) for at in range(20)]
    assert await buckets.add_taken([(keys[3], 50.0, 1_000.0)]) == [about(153)]
    assert await buckets.add_taken([(keys[3], 0.0, 1_000.0), (b"another", 0.0, 1_000.0)]) == [about(153), 0]


async def test_no_bucket_takes_longer_than_the_call_says(buckets: BucketStore) -> None:
    for _ in range(3):
        assert await buckets.add_taken([(b"device", 500.0, 600.0)]) <= [600.0]
    assert await buckets.add_taken([(b"device", 0.0, 600.0)]) == [about(600)]


async def test_a_bucket_that_is_learned_only_stays_as_it_is(buckets: BucketStore) -> None:
    for _ in range(2):
        assert await buckets.add_taken([(b"device", 0.0, 1_000.0)]) == [0]
    assert await buckets.add_taken([]) == []
