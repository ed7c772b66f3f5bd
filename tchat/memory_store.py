"""The store of a device that keeps nothing when its process ends: for tests, and for bots that begin anew.

With each life the device has other keys. So each time its person confirms it, or it starts a new identity.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tchat.crypto.state import MemoryState, OutboxRow, Table
from tchat.store import MemoryOutbox, Stored


class MemoryStore(MemoryOutbox, MemoryState):
    """A `KeyStore` and an `OutboxStore` in memory."""

    def __init__(self, first_n: int | None = None) -> None:
        MemoryOutbox.__init__(self, first_n)
        MemoryState.__init__(self)
        self._generation = 0

    def commit(self, changes: Mapping[tuple[Table, bytes], bytes | None], outbox: Sequence[OutboxRow]) -> None:
        MemoryState.commit(self, changes, ())
        for row in outbox:
            self.replace(Stored(row.n, row.data))

    def signed_in(self, n_max: int, generation: int) -> int:  # noqa: ARG002 - it began above all numbers
        """The generation of this device's keys: above all that the server knows."""
        self._generation = self._generation or generation + 1
        return self._generation

    def renew(self) -> int:
        """Begin a new generation: the keys of this one are believed by nobody any more."""
        self._generation += 1
        return self._generation

    def retire(self, n_max: int, generation: int) -> list[Stored]:
        """A store in memory is never an older copy."""
        raise AssertionError(f"the server is ahead of what lives in memory: {n_max}, {generation}")
