"""How often somebody may do something: rates by phone number, address, sign-in, person or service.

A node that serves alone counts by itself. Nodes that share a database count together, and each by itself while their
counts cannot be reached: then somebody gets the rate of each node, but nobody is refused for it and no rate ends.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from protocol.errors import ErrorCode
from server.clock import Clock
from server.refusals import RequestRefusedError
from server.token_bucket import take_tokens
from storage.rates import Bucket, RateLimiter
from storage.unavailable import StorageUnavailableError

KEYS_MAX = 100_000


class MemoryRateLimiter(RateLimiter):
    """Counts of this node alone."""

    def __init__(self, clock: Clock, *, keys_max: int = KEYS_MAX) -> None:
        self._clock = clock
        self._keys_max = keys_max
        self._full_at: dict[str, OrderedDict[str | bytes, float]] = {}

    async def take(self, buckets: Sequence[Bucket], *, cost: int = 1) -> float:
        now = self._clock.monotonic()
        wait_s = max((self._wait_s(bucket, now, cost) for bucket in buckets), default=0.0)
        if wait_s > 0:
            return wait_s
        for rate, key in buckets:
            keys = self._full_at.setdefault(rate.name, OrderedDict())
            _, keys[key] = take_tokens(keys.get(key, now), now, interval_s=rate.interval_s, burst=rate.burst, cost=cost)
            keys.move_to_end(key)
            self._forget(keys, now)
        return 0.0

    async def give_back(self, buckets: Sequence[Bucket], *, cost: int = 1) -> None:
        for rate, key in buckets:
            keys = self._full_at.get(rate.name)
            if keys is not None and key in keys:
                keys[key] -= rate.interval_s * min(cost, rate.burst)

    def _wait_s(self, bucket: Bucket, now: float, cost: int) -> float:
        rate, key = bucket
        keys = self._full_at.get(rate.name)
        full_at = now if keys is None else keys.get(key, now)
        wait_s, _ = take_tokens(full_at, now, interval_s=rate.interval_s, burst=rate.burst, cost=cost)
        return wait_s

    def _forget(self, keys: OrderedDict[str | bytes, float], now: float) -> None:
        """Drop what is full again, longest unused first; above the bound drop even what is not."""
        while keys:
            oldest = next(iter(keys))
            if len(keys) <= self._keys_max and keys[oldest] > now:
                return
            del keys[oldest]


class SharedRateLimiter(RateLimiter):
    """Counts of all nodes, `common`; while they cannot be reached, those of this node alone."""

    def __init__(self, common: RateLimiter, own: RateLimiter) -> None:
        self.judged_alone = 0
        """How often the common counts could not be reached."""
        self._common = common
        self._own = own

    async def take(self, buckets: Sequence[Bucket], *, cost: int = 1) -> float:
        try:
            return await self._common.take(buckets, cost=cost)
        except StorageUnavailableError:
            self.judged_alone += 1
            return await self._own.take(buckets, cost=cost)

    async def give_back(self, buckets: Sequence[Bucket], *, cost: int = 1) -> None:
        try:
            await self._common.give_back(buckets, cost=cost)
        except StorageUnavailableError:
            await self._own.give_back(buckets, cost=cost)


async def take_or_refuse(limiter: RateLimiter, buckets: Sequence[Bucket]) -> None:
    """Take one of every bucket; raises RequestRefusedError with `rate_limited` and how long to wait."""
    if wait_s := await limiter.take(buckets):
        raise RequestRefusedError(ErrorCode.RATE_LIMITED, "", retry_after_s=wait_s)
