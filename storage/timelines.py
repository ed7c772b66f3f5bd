"""The contract of the store that orders, keeps and returns timelines.

Guarantees of every engine:

* A verdict OK or DUPLICATE means: durable, at that `seq`, in that order, exactly once.
* Numbers of a dialog are dense, start at 1, and become readable in their order.
* The key of a write is `(dialog, device, n)`. A call can be repeated after any failure: what was stored answers
  DUPLICATE with the first numbers, the rest is judged again.
* A body under a used number is compared by value: a retry to a server of another version is no conflict.
* Membership, roles and `keys_seq` are judged under the same lock that numbers the row. Blocks and suspensions are
  judged after that lock is taken, as they are committed then. They are committed under another one: a write that is
  being judged at that moment may still be stored, later ones are refused.
* Whether a sign-in is live is not judged: what a session has handed over before its sign-in ends is stored.
* Who never was a member learns nothing, also by the time that the refusal takes, and makes nobody wait.
* A read returns only events that the asking principal may see. A snapshot from a position omits no event that was
  committed after it.
* Every method raises `StorageUnavailableError` when it cannot answer now. Writes then have an unknown fate, unless it
  is a `NothingWrittenError`. `flush` and `change` raise `WriteRefusedError` for what can never be written.
* Writes and `read_horizon` raise `IncarnationEndedError` once another node has ended the incarnation. A position that
  this node hands out therefore never passes what another one wrote.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from protocol.bodies import TimelineEventRaw
from protocol.replies import Member
from storage.rows import (
    ChangeEntry,
    ChangeResult,
    DialogRoster,
    DialogRow,
    Entry,
    ErasureStep,
    HorizonReading,
    Later,
    RaisedReceipt,
    ReceiptRow,
    Snapshot,
    SnapshotPage,
    Verdict,
)

PAGE_BYTES_MAX = 131_072
"""A page of events ends with the row whose body brings it to this size."""


def cut_short(page: Sequence[TimelineEventRaw]) -> bool:
    """Whether a page ended at `PAGE_BYTES_MAX`: there may be more."""
    return sum(len(row.body) for row in page) >= PAGE_BYTES_MAX


class Journal(Protocol):
    """The write half."""

    async def flush(self, entries: Sequence[Entry], *, incarnation: int, flush_no: int, wait: bool) -> list[Verdict]:
        """Judge and append a batch; one verdict per entry, in order.

        Entries of one `(dialog, device)` come in the order of their `n`, which rises. Those of a dialog whose head
        another call has locked get BUSY, unless `wait`.
        """

    async def change(self, entry: ChangeEntry, *, incarnation: int, flush_no: int) -> ChangeResult:
        """Judge and apply one change; waits for the head's lock."""

    async def overtake(self, flush_no: int, *, incarnation: int) -> None:
        """Let no call of this incarnation up to this `flush_no` begin any more: such a call gets NothingWrittenError.

        One that was given up may still be on its way, and would be judged after its repetition.
        """

    async def raise_receipts(
        self, receipts: Sequence[ReceiptRow], *, incarnation: int, epoch: int
    ) -> list[RaisedReceipt]:
        """Raise high-water marks, at most one of each `(dialog, principal)`; return those that grew or come `again`.

        In another epoch than this one nothing is raised: the numbers may be those of events that are lost.
        """

    async def erase_due(self, now_ms: int, *, limit: int) -> ErasureStep:
        """Erase some of what is due: about `limit` rows of each sort. While another call runs, it does nothing.

        Due are expired messages, those older than their dialog keeps them, and what hangs on erased ones.
        """

    async def begin_incarnation(self, node: str) -> int:
        """A number for this life of a node, never used before; also writes the table of dialog types."""

    async def read_horizon(self, *, incarnation: int) -> HorizonReading:
        """The snapshot horizon: all that older transactions wrote is readable, now and after any crash."""

    async def find_oldest_writer(self) -> str:
        """The transaction that holds the horizon back, in words for the log."""


class Timelines(Protocol):
    """The read half."""

    async def take_snapshot(
        self, principal: bytes, sign_in: bytes, since: int | None, *, window: int, events_max: int
    ) -> Snapshot:
        """The dialogs that changed since the horizon `since` (None: all that the principal is a member of), in pages.

        `recovered` is false when `since` is None, in the future, or before a row that has left the journal, or when
        what was missed is over the budget of one resume: `events_max` events (a dialog without any counts as one), or
        a few seconds. Then the snapshot has all dialogs, each with its last `window` events as unseen.
        """

    async def read_snapshot_page(self, principal: bytes, page: SnapshotPage) -> SnapshotPage:
        """The page after this one; it sees what was committed since, too."""

    async def read_dialogs(self, principal: bytes, dialogs: Sequence[bytes]) -> list[DialogRow]:
        """These dialogs as the principal sees them now, without those it never was a member of.

        `unseen_from` is one past the head.
        """

    async def read_events(
        self, principal: bytes, ranges: Sequence[tuple[bytes, int, int]], *, limit: int
    ) -> list[TimelineEventRaw]:
        """Visible events of `(dialog, from_seq, to_seq)` ranges, dialog by dialog, at most `limit` each.

        Every page ends early at `PAGE_BYTES_MAX` (`cut_short`).
        """

    async def read_newest(
        self, principal: bytes, dialog: bytes, from_seq: int, to_seq: int, *, limit: int
    ) -> list[TimelineEventRaw]:
        """The newest `limit` visible events of the range, in rising order."""

    async def read_later(self, principal: bytes, dialog: bytes, first: int, last: int, *, newest_first: bool) -> Later:
        """Edits, deletions and reactions of visible messages in `first..last` that a page of that range lacks.

        They came after `last`, or while the principal was away; none is from after they left for the last time.

        The work is bounded. When there is too much for one read, only messages at one end are answered, the newest or
        the oldest; of a single message with too much, the newest edit, the deletion, and the newest reaction of each of
        the people who reacted last, at most `REACTIONS_PER_MESSAGE_MAX`.
        """

    async def read_missed(
        self, principal: bytes, dialog: bytes, after: int, before: int, *, limit: int
    ) -> list[TimelineEventRaw] | None:
        """Edits, deletions and reactions between two numbers that are not visible, of messages that are.

        None when there are more than `limit`, more than a page holds, too many to look through, or some of what they
        are about is only in an archive that cannot be read now.
        """

    async def find_held(self, dialogs: Sequence[bytes]) -> dict[bytes, int]:
        """From which number on each of these dialogs is read without an archive; without those that do not exist."""

    async def read_roster(self, dialog: bytes) -> DialogRoster:
        """The members, for the fan-out; none of a dialog that does not exist."""

    async def find_removed(self, dialog: bytes, after: int, until: int) -> dict[bytes, int]:
        """Who was removed, or left, by the events after `after` up to `until`, and by which last.

        It costs the events between the two.
        """

    async def read_members(
        self, principal: bytes, dialogs: Sequence[bytes], *, after: bytes, limit: int
    ) -> dict[bytes, list[Member]]:
        """Members by dialog in the order of their ids, `limit` each; only of dialogs that the principal is in."""

    async def find_direct_peers(self, principal: bytes, of: Sequence[bytes]) -> set[bytes]:
        """Those of `of` with whom the principal shares a direct dialog and no block."""
