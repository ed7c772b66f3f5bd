"""The counts of connections of all workers of a server: one piece of memory that all of them have.

A network is two slots, found by a keyed hash, and the lesser of the two counts: who shares one slot with a crowd is not
taken for it, and nobody can choose whom to share both with (a count-min sketch).

Invariants: each worker writes its own column of the open connections and reads all of them, so no lock is needed, and
the column of a worker that has died is cleared before the next one begins. Workers that look at the same moment may
together let in as many more than a limit as there are other workers. Buckets are shared: of two tokens that are taken
at the same moment, one may not be counted. Monotonic time is that of the machine. What is read and written at once is
four or eight bytes, aligned.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import secrets
import tempfile
from array import array

from server.gateway.connection_counts import ConnectionCounts

_SLOTS = 65_536
"""Of each row: with 100,000 networks connected at once, a count is too high by one or two at most times."""
_KEY_BYTES = 16
_BUCKETS = 1 + 2 * _SLOTS
"""That of all connections, then two rows."""
_COUNTS = 1 + 2 * _SLOTS
_COUNT_BYTES = 4


class SharedCounts(ConnectionCounts):
    """The counts, as worker `column` of `workers` writes them."""

    def __init__(self, fd: int, *, workers: int, column: int) -> None:
        """`fd` is of `create_shared_memory`, and stays the caller's."""
        memory = memoryview(mmap.mmap(fd, _size(workers)))
        self._key = bytes(memory[:_KEY_BYTES])
        buckets_end = _KEY_BYTES + 8 * _BUCKETS
        self._buckets = memory[_KEY_BYTES:buckets_end].cast("d")
        self._counts = memory[buckets_end:].cast("I")
        self._workers = workers
        self._column = column

    def clear(self) -> None:
        """Forget the open connections of this column: the worker that had them has ended."""
        self._counts[self._column :: self._workers] = memoryview(array("I", bytes(_COUNT_BYTES * _COUNTS)))

    def total(self) -> int:
        return self._sum(0)

    def change_total(self, by: int) -> None:
        self._counts[self._column] += by

    def of(self, network: str) -> int:
        one, other = self._slots(network)
        return min(self._sum(one), self._sum(other))

    def change(self, network: str, by: int) -> None:
        for slot in self._slots(network):
            self._counts[slot * self._workers + self._column] += by

    def total_full_at(self) -> float:
        return self._buckets[0]

    def set_total_full_at(self, at: float) -> None:
        self._buckets[0] = at

    def full_at(self, network: str) -> float:
        one, other = self._slots(network)
        return min(self._buckets[one], self._buckets[other])

    def set_full_at(self, network: str, at: float, now: float) -> None:  # noqa: ARG002 - nothing is made room for
        for slot in self._slots(network):
            self._buckets[slot] = max(self._buckets[slot], at)

    def _sum(self, slot: int) -> int:
        return sum(self._counts[slot * self._workers : (slot + 1) * self._workers])

    def _slots(self, network: str) -> tuple[int, int]:
        digest = hashlib.blake2b(network.encode(), key=self._key, digest_size=8).digest()
        one, other = int.from_bytes(digest[:4], "big"), int.from_bytes(digest[4:], "big")
        return 1 + one % _SLOTS, 1 + _SLOTS + other % _SLOTS


def create_shared_memory(workers: int) -> int:
    """A file without a name, for the counts of so many workers; its descriptor, which children may inherit."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("tchat")
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.truncate(fd, _size(workers))
    os.pwrite(fd, secrets.token_bytes(_KEY_BYTES), 0)
    return fd


def _size(workers: int) -> int:
    return _KEY_BYTES + 8 * _BUCKETS + _COUNT_BYTES * _COUNTS * workers
