"""The contracts of what is counted to hold somebody to a rate. Who counts for all nodes is away now and then.

A rate has a token bucket for each key. A bucket is one number, the time at which it will be full, so a bucket that is
full needs no entry and is forgotten: what is stored is bounded by what was taken lately.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

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
    """Counts what is taken of rates.

    What one call takes is taken at once: of two calls that want the last token of a bucket one gets it. Keys may be
    phone numbers and addresses: an engine outside of this process keeps no key from which one can be found out.

    Raises StorageUnavailableError, soon, when the counts cannot be reached; nobody knows then whether it was taken.
    """

    async def take(self, buckets: Sequence[Bucket], *, cost: int = 1) -> float:
        """Take `cost` of every bucket, or of none: 0, or the seconds until all of them have it.

        If that is more than a bucket holds, it takes a full one.
        """
        ...

    async def give_back(self, buckets: Sequence[Bucket], *, cost: int = 1) -> None:
        """Undo a `take`. What time has given back meanwhile is not given twice: no bucket holds more than is its."""
        ...


Taken = tuple[bytes, float, float]
"""A bucket, what is added to how many seconds it takes to fill, and the most that it may take."""


class BucketStore(Protocol):
    """How empty the buckets of sessions are, over all nodes: judged by each node, and told to the others now and then.

    A bucket is given as the seconds that it takes to fill. It is forgotten when it is full. Keys are opaque.

    Raises StorageUnavailableError, soon, when the store cannot be reached.
    """

    async def add_taken(self, taken: Sequence[Taken]) -> list[float]:
        """Add to how long buckets take to fill, 0 only to learn it, and return how long each takes then.

        Rounded to milliseconds. What nodes took at the same time may be more than a bucket holds: the most that is
        kept of a bucket is what the call says.
        """
        ...
