"""The contract of what a node must know of the others that share its database: who lives, and what they wrote.

Guarantees of every engine:

* All rows with a stamp below the horizon of a reading are visible to every later call, and none is added there.
* A reading names every incarnation that may have written rows with a stamp from `since` on and below its horizon: those
  that were not fenced then, and those that were fenced so lately that a horizon has not passed them.
* A fenced incarnation never writes again, and all it wrote is visible.
* Numbers of a dialog are dense, and its stamps never fall.
* The events that make a dialog large, or bring somebody into one that is, are visible at once to `find_large`.
* Every method raises `StorageUnavailableError` when it cannot answer now, and may be called again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from storage.rows import ClusterReading, WrittenRow

LARGE_ABOVE = 100
"""A dialog with more members is large: its events go to the nodes where its room is, not to where each member is."""

PAGE_ROWS = 500
"""Rows of a page; it ends earlier with the row whose body brings it to `PAGE_BYTES_MAX` of `timelines.py`."""


class Nodes(Protocol):
    """The nodes of a deployment, as one of them sees the others."""

    async def read_cluster(self, *, incarnation: int, since: int, recent_since: int = 0) -> ClusterReading:
        """Renew the lease of an incarnation, then read the horizon and all incarnations from `since` on.

        For the `recent_horizon` transactions with an id below `recent_since` began long ago. Raises
        IncarnationEndedError if another node has ended it, OtherHistoryError. The horizon is durable, as that of
        `Journal.read_horizon`.
        """

    async def read_written(
        self, incarnations: Sequence[int], since: int, before: int, *, after: tuple[int, bytes, int]
    ) -> list[WrittenRow]:
        """What these wrote with `since <= stamp < before`, ordered by `(stamp, dialog, seq)`, from `after` on.

        A page; an empty one is the end.
        """

    async def read_rows(self, dialog: bytes, first: int, last: int) -> list[WrittenRow]:
        """A page of the rows of a dialog with these numbers, in order; for the fan-out, whoever may see them."""

    async def find_unseen(self, heads: Sequence[tuple[bytes, int]], since: int) -> list[int]:
        """For each `(dialog, seq)` the first number up to `seq` whose stamp is `since` or later; else `seq + 1`."""

    async def end(self, incarnation: int, *, lease: int | None) -> bool:
        """Mark an incarnation as ended if its lease stands at `lease` (None: in any case); whether it has ended."""

    async def fence(self, incarnation: int) -> bool:
        """Note that an incarnation that has ended writes nothing more; False while something of it still runs."""

    async def find_large(self, principal: bytes, *, after: bytes) -> list[bytes]:
        """The large dialogs of a principal, and maybe some that have shrunk: a page of `PAGE_ROWS`, from `after` on."""

    async def read_size(self, dialog: bytes) -> tuple[int, int]:
        """The `roster_seq` of a dialog and the number of its members then; zeros if there is no such dialog."""

    async def draw_stamp(self) -> int:
        """A number above all that were drawn before, by any node."""
