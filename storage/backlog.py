"""The contract of what the archive lacks: rows of the journal that are not moved yet, and erasures.

Guarantees of every engine:

* One holder in the deployment at a time has the backlog. A holder that has lost it without noticing, or comes back
  after a long pause, harms nothing: what it still writes was read from the journal, an erasure wins in the archive,
  and `advance` only goes on from where it began.
* The rows below a horizon never change in number: a transaction that commits late lies beyond it, also after a crash.
* A row is read as it is then. One that is blanked later is among the erasures until `forget_erasures` is called, and
  one that was blanked before the first `take` is read blank.
* Nothing is open in the database between two calls.
* Every method raises `StorageUnavailableError` when it cannot answer now; then the backlog is to be taken again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from protocol.ids import NIL
from storage.rows import TimelineRow


class Cursor(msgspec.Struct, frozen=True, order=True):
    """A place in the journal: after the row with this stamp, dialog and number; a stamp alone: before its rows."""

    xid: int
    dialog: bytes = NIL
    seq: int = 0


class ArchivingState(msgspec.Struct, frozen=True):
    """What is moved: all rows with a stamp below `moved`, and all that was written before `covered_ms`.

    `erasures` wait to be erased in the archive, as far as they were counted. `held`: this is the holder. `epoch` is
    that of all that is read until the next call.
    """

    held: bool
    epoch: int
    moved: int
    covered_ms: int
    erasures: int


class BacklogHorizon(msgspec.Struct, frozen=True):
    """A horizon that outlives a crash; transactions from `next_xid` on began after `now_ms`."""

    horizon: int
    next_xid: int
    now_ms: int


class BacklogPage(msgspec.Struct, frozen=True):
    """Rows in the order of their stamps, and the place up to which they are all there are."""

    rows: list[TimelineRow]
    reached: Cursor


class ArchiveBacklog(Protocol):
    """What the mover reads and notes in the database."""

    async def take(self) -> ArchivingState:
        """Become the holder if there is none, and say how it stands. From the first call on, erasures are noted.

        Raises StorageUnavailableError while the epoch of this history of the database has not begun.
        """

    async def read_horizon(self) -> BacklogHorizon:
        """The horizon up to which rows can be moved now."""

    async def read_page(self, after: Cursor, horizon: int) -> BacklogPage:
        """Some rows after a place and below a horizon, bounded in number and bytes; at the end it has reached it."""

    async def advance(self, first: int, moved: int, covered_ms: int) -> None:
        """Note that the rows with stamps `first..moved - 1` are moved; nothing if those before `first` are not."""

    async def list_erasures(self, limit: int) -> list[tuple[bytes, int]]:
        """Some `(dialog, seq)` that the archive must erase."""

    async def list_left(self, dialog: bytes, seqs: Sequence[int]) -> list[int]:
        """Those of these numbers whose rows have left the journal; those that no row has had yet are not among them."""

    async def list_sealed_left(self, keys: Sequence[tuple[bytes, int]]) -> list[tuple[bytes, int]]:
        """Those of these `(dialog, seq)` that are of sealed dialogs, and whose rows have left the journal."""

    async def keep_commitments(self, rows: Sequence[TimelineRow]) -> None:
        """Keep what these rows committed to: they are about to be erased in the archive, the only one that has them."""

    async def forget_erasures(self, keys: Sequence[tuple[bytes, int]]) -> None:
        """Note that the archive has erased these."""

    async def release(self) -> None:
        """Let another become the holder."""
