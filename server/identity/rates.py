"""How often somebody may do something: rates by phone number, address, sign-in, person or service.

Each key of a rate has a token bucket. The Protocol is small, so that the nodes of a deployment may later count
together; here each node counts alone.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol

import msgspec

from protocol.errors import ErrorCode
from server.clock import Clock
from server.refusals import RequestRefusedError
from server.token_bucket import take_tokens

KEYS_MAX = 100_000
HOUR_S = 3600.0
DAY_S = 24 * HOUR_S


class Rate(msgspec.Struct, frozen=True):
    """`burst` at once, and one more every `interval_s`. The name keeps the keys of two rates apart."""

    name: str
    interval_s: float
    burst: float

    @classmethod
    def per_hour(cls, name: str, count: int) -> Rate:
        """`count` per hour, which may all come at once."""
        return cls(name, HOUR_S / count, count)

    @classmethod
    def per_hour_evenly(cls, name: str, count: int) -> Rate:
        """`count` per hour, of which a tenth may come at once."""
        return cls(name, HOUR_S / count, max(1.0, count / 10))

    @classmethod
    def per_day(cls, name: str, count: int) -> Rate:
        """`count` per day, which may all come at once."""
        return cls(name, DAY_S / count, count)

    @classmethod
    def per_second(cls, name: str, per_s: float) -> Rate:
        """`per_s` per second; two seconds' worth may come at once."""
        return cls(name, 1.0 / per_s, max(1.0, 2 * per_s))


Bucket = tuple[Rate, str | bytes]
"""A rate and whose it is."""


class RateLimiter(Protocol):
    """Counts what is taken. Bounded: an unused key is forgotten when its bucket is full."""

    async def take(self, buckets: Sequence[Bucket], *, cost: int = 1) -> float:
        """Take `cost` of every bucket, or of none: 0, or the seconds until all of them have it.

        If that is more than a bucket holds, it takes a full one.
        """
        ...

    async def give_back(self, buckets: Sequence[Bucket], *, cost: int = 1) -> None:
        """Undo a `take`."""
        ...


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


async def take_or_refuse(limiter: RateLimiter, buckets: Sequence[Bucket]) -> None:
    """Take one of every bucket; raises RequestRefusedError with `rate_limited` and how long to wait."""
    if wait_s := await limiter.take(buckets):
        raise RequestRefusedError(ErrorCode.RATE_LIMITED, "", retry_after_s=wait_s)
