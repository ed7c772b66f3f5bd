"""The contract of the store that orders, keeps and returns timelines.

Guarantees, whoever implements it:

* A verdict OK or DUPLICATE means: durable, at that `seq`, in that order, exactly once.
* Numbers of a dialog are dense, start at 1, and become readable in their order.
* The key of a write is `(dialog, device, n)`. Calling again after any failure is safe: what was
  stored answers DUPLICATE with the first numbers, what was not is judged anew.
* Membership, roles, blocks and `keys_seq` are judged under the same lock that numbers the row.
* A read returns only numbers that the asking principal may see, and none before the asker's
  position that it has not been told of (see `Snapshot`).
* Every method raises `StorageUnavailableError` when it cannot answer now; writes then have an unknown fate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from protocol.bodies import TimelineEventRaw
from protocol.replies import Member
from storage.rows import (
    ChangeEntry,
    ChangeResult,
    DialogRow,
    Entry,
    ReceiptRow,
    Roster,
    Snapshot,
    Verdict,
)

PAGE_BYTES_MAX = 262_144
"""A page of events ends with the row whose body brings it to so many bytes. Even as JSON, and with as much again that
came later, it fits the 1 MiB that websocket libraries take by default."""


def cut_short(page: Sequence[TimelineEventRaw]) -> bool:
    """Whether a page ended because of its bytes: there may be more."""
    return sum(len(row.body) for row in page) >= PAGE_BYTES_MAX


class RaisedReceipt(ReceiptRow, frozen=True):
    """A mark that grew; `shared` when other members may learn of it."""

    shared: bool = False
    roster_seq: int = 0
    member_count: int = 0


class Journal(Protocol):
    """The write half."""

    async def flush(self, entries: Sequence[Entry], *, incarnation: int, flush_no: int, wait: bool) -> list[Verdict]:
        """Judge and append a batch; one verdict per entry, in order.

        No two entries share `(dialog, device)` with an `n` that does not rise. Dialogs whose head
        somebody else holds get BUSY, unless `wait`.
        """

    async def change(self, entry: ChangeEntry, *, incarnation: int, flush_no: int) -> ChangeResult:
        """Judge and apply one change; waits for the head."""

    async def raise_receipts(self, marks: Sequence[ReceiptRow]) -> list[RaisedReceipt]:
        """Raise high-water marks; returns those that grew. At most one per `(dialog, principal)`."""

    async def begin_incarnation(self, node: str) -> int:
        """A number for this life of a node, never given before; also writes the table of dialog types."""

    async def read_horizon(self) -> int:
        """The snapshot horizon: everything written by an older transaction is readable, now and after any crash."""


class Timelines(Protocol):
    """The read half."""

    async def take_snapshot(
        self, principal: bytes, sign_in: bytes, since: int | None, *, window: int, events_max: int
    ) -> Snapshot:
        """The dialogs that changed since the horizon `since` (None: all one is a member of).

        `recovered` is false when `since` is None or of the future, or when more than `events_max`
        events were missed; then all dialogs come, each from the last `window` events on.
        """

    async def read_dialogs(self, principal: bytes, dialogs: Sequence[bytes]) -> list[DialogRow]:
        """These dialogs as the principal sees them now; those it never was a member of are absent.

        `unseen_from` is one past the head.
        """

    async def read_events(
        self, principal: bytes, ranges: Sequence[tuple[bytes, int, int]], *, limit: int
    ) -> list[TimelineEventRaw]:
        """Visible events of `(dialog, from_seq, to_seq)` ranges, dialog by dialog, at most `limit` each.

        This page, and the others, end early at `PAGE_BYTES_MAX`: see `cut_short`.
        """

    async def read_newest(
        self, principal: bytes, dialog: bytes, from_seq: int, to_seq: int, *, limit: int
    ) -> list[TimelineEventRaw]:
        """The newest `limit` visible events of the range, in rising order."""

    async def read_later(
        self, principal: bytes, dialog: bytes, first: int, last: int, *, limit: int
    ) -> list[TimelineEventRaw]:
        """Visible edits, deletions and reactions after `last` of messages in `first..last`.

        Of more than `limit` the newest edits and deletions come, then the newest reactions.
        """

    async def read_roster(self, dialog: bytes) -> Roster:
        """The members for the fan-out; of a dialog that does not exist, none."""

    async def read_members(
        self, principal: bytes, dialogs: Sequence[bytes], *, after: bytes, limit: int
    ) -> dict[bytes, list[Member]]:
        """Members by dialog in the order of their ids, `limit` each; only of dialogs the asker is in."""

    async def find_direct_peers(self, principal: bytes, of: Sequence[bytes]) -> set[bytes]:
        """Those of `of` with whom the principal shares a direct dialog and no block."""
