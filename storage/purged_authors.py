"""The contract of what purged people wrote in the dialogs of others, and is erased in the background.

Guarantees of every engine:

* All messages, edits and reactions that a purged person wrote are erased like any other: the row stays, and what hangs
  on it counts as erased. What others wrote, joins, names and other events stay.
* The work of a step grows with what the person wrote, and with their dialogs, never with what others wrote there.
* A step is repeated without harm, also by two callers at once, and goes on where the one before ended.
* Every method raises `StorageUnavailableError` when it cannot answer now.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

NUMBERS_TOGETHER = 10_000
"""Numbers of a device that are noted together when rows leave the journal; never changed."""


class LeftNumbers(msgspec.Struct, frozen=True):
    """Numbers of a device of which some rows are in the archive only: from `first` on, `NUMBERS_TOGETHER` of them.

    All up to the place `after`, a number and a dialog, has been erased; None: nothing yet.
    """

    author: bytes
    device: bytes
    first: int
    after: tuple[int, bytes] | None


class AuthorStep(msgspec.Struct, frozen=True):
    """Rows that a step looked at, whether there is more to do now, and what to ask the archive for, if at all."""

    rows: int
    more: bool
    left: LeftNumbers | None


class PurgedAuthors(Protocol):
    """People whose purge is over, until what they wrote is erased."""

    async def erase_some(self, now_ms: int, *, limit: int) -> AuthorStep:
        """One step for the person who is due first: about `limit` rows of the journal, then what the archive has."""

    async def erase_left(
        self, left: LeftNumbers, now_ms: int, *, keys: Sequence[tuple[bytes, int]], reached: tuple[int, bytes] | None
    ) -> None:
        """Erase these rows `(dialog, seq)` of the archive; they are all of `left` up to the place `reached`.

        None: up to the end. What the journal has for other rows, or not given out yet, is left alone.
        """
