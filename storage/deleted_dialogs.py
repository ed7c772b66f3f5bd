"""The contract of what is left of deleted dialogs, and is purged after a grace.

Guarantees of every engine:

* From the deletion on nothing is added to the dialog, by anybody. Its members read it until the purge begins; then
  nobody does, and nothing of it comes back.
* A look through the dialog deletes all rows of it but its head, step by step, those of payments included. Another look
  follows, until one meets nothing.
* A step, or the end of a look, is repeated without harm, also by two callers at once.
* Every method raises `StorageUnavailableError` when it cannot answer now.
"""

from __future__ import annotations

from typing import Protocol

import msgspec


class Look(msgspec.Struct, frozen=True):
    """A look through a deleted dialog that is at its end: in the archive, its rows `1..last_seq` are next.

    `epoch` is that of the deployment. `archived`: timelines of this deployment are archived, by whichever node.
    """

    dialog: bytes
    grace_from_ms: int
    last_seq: int
    epoch: int
    archived: bool


class DialogPurgeStep(msgspec.Struct, frozen=True):
    """Rows that a step looked at, whether there is more to do now, and the look that it ended, if it did."""

    rows: int
    more: bool
    ended: Look | None


class DeletedDialogs(Protocol):
    """Deleted dialogs, from the end of their grace on."""

    async def purge_some(self, now_ms: int, *, grace_ms: int, limit: int) -> DialogPurgeStep:
        """One step of the dialog whose grace ended first: about `limit` rows."""

    async def finish(self, look: Look, now_ms: int, *, grace_ms: int) -> None:
        """End a look, after the archive has deleted the rows, too."""
