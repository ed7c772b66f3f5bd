"""Rates in a real Redis: what is stored there, for how long, and what its clock and its silence do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
import redis

from storage.rates import Rate
from storage.redis.rates import RedisBuckets, RedisRateLimiter
from storage.unavailable import StorageUnavailableError
from tests.engines.redis_server import RedisServer
from tests.support.redis_instances import connected

pytestmark = pytest.mark.anyio

TWO = Rate.per_hour("two", 2)


@pytest.fixture
async def limiter(own_redis: RedisServer) -> AsyncIterator[RedisRateLimiter]:
    async with connected(own_redis.url) as [instance]:
        yield RedisRateLimiter(instance, "test", b"secret")


async def test_what_is_stored_names_nobody_and_is_keyed(own_redis: RedisServer, redis_operator: redis.Redis) -> None:
    async with connected(own_redis.url) as [instance]:
        for secret in (b"secret", b"another"):
            await RedisRateLimiter(instance, "test", secret).take([(TWO, "198.51.100.7"), (TWO, b"+6591234567")])
    keys = list(redis_operator.scan_iter())
    assert len(set(keys)) == 4
    assert not any(part in key for key in keys for part in (b"198.51", b"6591", b"two"))


async def test_a_bucket_is_stored_until_it_is_full(limiter: RedisRateLimiter, redis_operator: redis.Redis) -> None:
    for taken in (1, 2):
        await limiter.take([(TWO, "a")])
        [key] = redis_operator.scan_iter()
        assert redis_operator.pttl(key) == pytest.approx(taken * 1_800_000, abs=60_000)
    await limiter.give_back([(TWO, "a")], cost=2)
    assert list(redis_operator.scan_iter()) == []


async def test_a_clock_that_is_set_back_keeps_nobody_longer_than_a_bucket_takes(
    limiter: RedisRateLimiter, redis_operator: redis.Redis
) -> None:
    await limiter.take([(TWO, "a")], cost=2)
    [key] = redis_operator.scan_iter()
    redis_operator.incrby(key, 86_400 * 10**6)  # as of a clock that was a day ahead then
    assert await limiter.take([(TWO, "a")]) == pytest.approx(1_800, abs=60)


async def test_a_bucket_of_sessions_ends_in_time_whatever_the_clock_did(
    own_redis: RedisServer, redis_operator: redis.Redis
) -> None:
    async with connected(own_redis.url) as instances:
        buckets = RedisBuckets(instances, "test")
        await buckets.add_taken([(b"device", 5.0, 65.0)])
        [key] = redis_operator.scan_iter()
        redis_operator.pexpire(key, 86_400_000)  # as of a clock that was a day ahead then
        assert await buckets.add_taken([(b"device", 0.0, 65.0)]) == [65.0]
        assert redis_operator.pttl(key) == pytest.approx(65_000, abs=20_000)


async def test_of_several_instances_one_that_is_away_takes_its_own_buckets_alone(
    start_redis: Callable[[], RedisServer],
) -> None:
    one, other = start_redis(), start_redis()
    async with connected(one.url, other.url) as instances:
        buckets = RedisBuckets(instances, "test")
        taken = [(bytes([number]), 500.0, 600.0) for number in range(20)]
        one.kill()
        first = await buckets.add_taken(taken)
        assert sorted(set(first)) == [0.0, 500.0]
        other.kill()
        with pytest.raises(StorageUnavailableError):
            await buckets.add_taken(taken)


async def test_a_redis_that_hangs_or_is_gone_is_unavailable_soon(own_redis: RedisServer) -> None:
    async with connected(own_redis.url) as [instance]:
        limiter = RedisRateLimiter(instance, "test", b"secret")
        for break_it in (own_redis.pause, own_redis.kill):
            break_it()
            with pytest.raises(StorageUnavailableError):
                await limiter.take([(TWO, "a")])
            with pytest.raises(StorageUnavailableError):
                await limiter.give_back([(TWO, "a")])
