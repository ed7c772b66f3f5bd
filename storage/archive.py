"""The contract of the store to which timelines are copied, and from which rows are read that the journal has no more.

Guarantees of every engine:

* A `write` or an `erase` that returns is durable, and every later read sees it. One that raises has an unknown fate,
  for each row of it: call again. Repeats, and several writers at once, change nothing.
* A row changes in one way only: it is erased. **An erasure wins**, whichever comes first, a row or its erasure, and
  however often each is repeated: no read returns the content of a row after an `erase` of it, or a `write` of it as
  `Erased`, has returned. Of an erased row all but its body and tag stays, until its dialog is deleted.
* Writes come in any order. A read returns what has been written: numbers that it lacks are not archived yet, so who
  reads knows, from the journal, up to where a dialog is archived. An erasure alone makes no row.
* Numbers may be given out again in a later epoch, for other rows. What is written in an epoch wins over all that was
  written in lower ones, erasures included.
* After another epoch has begun, rows and entries of `read_about` may be of a history that was lost: what the journal
  has is true. Nothing is judged: neither who may read nor whether a number belongs to the dialog.
* Every method is bounded in time, and raises `StorageUnavailableError` when it cannot answer now
  (`StorageTimeoutError`: it took too long). What a caller cancels may still be written.
* A read returns at most `limit` rows, and ends with the row whose body brings it to `PAGE_BYTES_MAX` (`cut_short`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from protocol.bodies import Deleted, Edited, Erased, Posted, Reacted, tag_of
from protocol.limits import N_MAX
from storage.rows import TimelineRow

HANGING = (tag_of(Edited), tag_of(Reacted))
"""Tags of the rows that are erased with the message that is their `target`."""

ABOUT_A_MESSAGE = frozenset({*HANGING, tag_of(Deleted)})
"""Tags of the rows that `read_about` finds by the message that is their `target`."""

LEAVE_THE_JOURNAL = frozenset({tag_of(Posted), tag_of(Edited), tag_of(Reacted), tag_of(Erased)})
"""Tags of the rows that `find_written` finds. The others stay in the journal, and so are found there."""

ARCHIVE_ROWS_MAX = 10_000
"""Most numbers that `read_rows`, `read_tags` and `read_about` may be asked for at once."""


WRITTEN_MAX = 100
"""Most entries that `list_written` may be asked for at once."""


class WrittenPage(msgspec.Struct, frozen=True):
    """Rows `(dialog, seq)` that a device has written, all up to the place `(n, dialog)`; None: to the end."""

    keys: list[tuple[bytes, int]]
    reached: tuple[int, bytes] | None


class Archive(Protocol):
    """Timelines, as far as they have been moved out of the journal."""

    async def write(self, rows: Sequence[TimelineRow], *, epoch: int = 0) -> None:
        """Store rows of any dialogs, any number of them, in any order, as they are in this epoch of the deployment.

        The engine groups them and bounds what is on its way; several calls at once share that bound.
        """

    async def erase(self, keys: Sequence[tuple[bytes, int]], *, epoch: int = 0) -> None:
        """Erase the rows `(dialog, seq)` of this epoch and of lower ones, those that are written later included."""

    async def delete_dialog(self, dialog: bytes, last: int, *, epoch: int = 0) -> None:
        """Delete the rows `1..last` of a dialog that were written in this epoch or a lower one, for good.

        Such a row that is written later is not read, either: for as long as the engine remembers what it has deleted,
        ten days on a CQL server, which is longer than a writer may be late.
        """

    async def read_range(
        self, dialog: bytes, first: int, last: int, *, limit: int, newest_first: bool
    ) -> list[TimelineRow]:
        """Rows `first..last` in rising order, or, with `newest_first`, the newest of them in falling order.

        The numbers should exist: the work grows with those that are beyond the head of the dialog.
        """

    async def read_rows(self, dialog: bytes, seqs: Sequence[int]) -> list[TimelineRow]:
        """The rows with these numbers (they rise), in rising order, without those that are not archived."""

    async def read_tags(self, dialog: bytes, first: int, last: int) -> dict[int, int]:
        """The tag of each row `first..last`, as it is now: what a row is, without the cost of its body."""

    async def read_about(
        self, dialog: bytes, first: int, last: int, *, limit: int, newest_first: bool
    ) -> list[TimelineRow]:
        """Edits, deletions and reactions of the messages `first..last`, in the order of these, rising or falling.

        Those of one message come in no promised order, and of the last one of a full or short page some may lack.
        Those that have been erased may be among them, as `Erased`.
        """

    async def read_newest_about(
        self, dialog: bytes, target: int, tag: int, *, limit: int, before: int = N_MAX
    ) -> list[TimelineRow]:
        """The newest rows that were written about a message with a tag of `ABOUT_A_MESSAGE`, in falling order.

        `before`: with lower numbers than this one; an empty page is the end. Those that have been erased may be among
        them, as `Erased`.
        """

    async def find_written(self, dialog: bytes, device: bytes, n: int) -> int | None:
        """The number of the row that a device has written under its own `n`, with a tag of `LEAVE_THE_JOURNAL`."""

    async def list_written(
        self, device: bytes, first: int, last: int, *, after: tuple[int, bytes] | None, limit: int
    ) -> WrittenPage:
        """The rows that `find_written` finds under the numbers `first..last` of a device, in any dialog, after a place.

        Those that are erased are left out. The work grows with the distance of these numbers.
        """
