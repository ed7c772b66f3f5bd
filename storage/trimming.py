"""The contract of what leaves the journal because the archive has it, and of what is put back when somebody needs it.

Guarantees of every engine:

* Only rows leave that the archive has, with nothing left to erase, and only content: messages, edits, reactions, and
  what is erased of these. What must be kept for its kind, has an expiry, or is within a retention stays until that is
  over. So the journal alone knows rosters, names, settings and deletions.
* A number that has left stays taken: no row gets it again, and a repetition of it is answered NUMBER_PASSED,
  which is the caller's to look into: the row may be put back (`Archive.find_written`).
* A position from before a row that has left is not recovered (`Timelines.take_snapshot`).
* What is about a row that has left is answered TARGET_ARCHIVED, and nothing of it is written; a row that was put back
  is like any other, and leaves again after a day.
* Every method raises `StorageUnavailableError` when it cannot answer now, and may be repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from storage.rows import TimelineRow


class TrimStep(msgspec.Struct, frozen=True):
    """Rows that a step has deleted, and whether the sweep is at its end."""

    rows: int
    done: bool


class Trimming(Protocol):
    """Deletes rows from the journal, and puts some back."""

    async def trim(self, now_ms: int, *, kept_ms: int) -> TrimStep:
        """One step of a sweep over rows older than `kept_ms`: bounded work, short locks. One call works at a time."""

    async def put_back(self, rows: Sequence[TimelineRow], now_ms: int, *, incarnation: int) -> None:
        """Put rows back that were read from the archive a moment ago; those that are there stay as they are."""
