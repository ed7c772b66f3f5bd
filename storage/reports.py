"""The contract of reports: what a message committed to, kept for a while after its erasure, and what was reported.

Guarantees of every engine:

* What a message, an edit or a reaction of a sealed dialog committed to is found while it is there, and for
  COMMITMENT_KEPT_DAYS after it was erased, wherever its row is. Then it is forgotten, and so it is with its dialog.
* Only who may see an event by its number finds it.
* A report is kept once for each reporter and event, until its time is over. The audit trail says that there was one.
* A call that is repeated changes nothing.
* Every method raises `StorageUnavailableError` when it cannot answer now; a report may have been kept then.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from protocol.bodies import Edited, Posted, Reacted, decode_body, tag_of
from protocol.kinds import DAY_MS
from protocol.limits import COMMITMENT_KEPT_DAYS
from storage.rows import TimelineRow

_SEALED = (tag_of(Posted), tag_of(Edited), tag_of(Reacted))
COMMITMENT_KEPT_MS = COMMITMENT_KEPT_DAYS * DAY_MS


class Committed(msgspec.Struct, frozen=True):
    """What an event committed to, and whose it is. `target` is the message that an edit or a reaction is about."""

    author: bytes
    device: bytes
    n: int
    tag: int
    target: int | None
    commitment: bytes


class ReportedEvent(msgspec.Struct, frozen=True):
    """An event as its reporter may see it: not at all, with what it committed to, or in the archive only."""

    visible: bool
    committed: Committed | None = None
    archived: bool = False


class SealedReport(msgspec.Struct, frozen=True):
    """A report, of which moderators alone read `sealed`. `author` wrote what is reported."""

    at_ms: int
    reporter: bytes
    author: bytes
    dialog: bytes
    seq: int
    sealed: bytes


class NumberedReport(SealedReport, frozen=True):
    """A report that is kept; numbers grow."""

    number: int


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What moderators read of a report. Bytes are base64 in its JSON; `key` opens the `commitment` for `content`."""

    reason: str
    reporter: str
    reported_at_ms: int
    dialog: str
    seq: int
    author: str
    device: str
    n: int
    tag: int
    target: int | None
    content: bytes
    key: bytes
    commitment: bytes


class Reports(Protocol):
    """Reports, and the proof of what they say."""

    async def find(self, reporter: bytes, dialog: bytes, seq: int, now_ms: int) -> ReportedEvent | None:
        """An event; None: the reporter never was a member of such a dialog."""

    async def keep(self, report: SealedReport, *, until_ms: int) -> None:
        """Store a report."""

    async def list(self, *, after: int, limit: int) -> list[NumberedReport]:
        """Reports with numbers above `after`, the lowest first."""


def find_committed(row: TimelineRow) -> Committed | None:
    """What a stored row committed to; None if it is erased, or was not sealed."""
    body = decode_body(row.event.body) if row.tag in _SEALED else None
    if not isinstance(body, Posted | Edited | Reacted) or body.header.commitment is None:
        return None
    event, target = row.event, None if isinstance(body, Posted) else body.target
    return Committed(event.author, event.device, event.n, row.tag, target, body.header.commitment)
