"""Buckets of several nodes of one process, in memory, for tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from storage.rates import BucketStore, Taken
from storage.unavailable import StorageUnavailableError


class LocalBuckets(BucketStore):
    """All nodes share one. `away`: it cannot be reached. `monotonic` gives the time in seconds."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self.away = False
        self._monotonic = monotonic
        self._full_at: dict[bytes, float] = {}

    async def add_taken(self, taken: Sequence[Taken]) -> list[float]:
        if self.away:
            raise StorageUnavailableError("the buckets of other nodes are away")
        now = self._monotonic()
        for key, taken_s, most_s in taken:
            self._full_at[key] = min(max(self._full_at.get(key, now), now) + taken_s, now + most_s)
        return [self._full_at[key] - now for key, _, _ in taken]
