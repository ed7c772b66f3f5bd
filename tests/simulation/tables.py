"""The rows of the database in memory: what the tables of PostgreSQL hold, as plain objects."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

import msgspec

from protocol.bodies import (
    AnyBody,
    Deleted,
    DialogCreated,
    Edited,
    Erased,
    Posted,
    Reacted,
    SettingsChanged,
    TimelineEventRaw,
    tag_of,
)
from protocol.dialog_types import DIALOG_TYPES, DialogType, Mode, Role, TypeRule

POSTED, EDITED, DELETED, REACTED, ERASED = (tag_of(body) for body in (Posted, Edited, Deleted, Reacted, Erased))
ABOUT_A_MESSAGE = (EDITED, DELETED, REACTED)
HANGS_ON_A_MESSAGE = (EDITED, REACTED)
ERASED_BODY = msgspec.msgpack.encode(Erased())
decode_body = msgspec.msgpack.Decoder(AnyBody).decode


class NotSimulatedError(Exception):
    """The journal in memory does not implement this: it belongs into no simulation and no test of this journal."""


@dataclass(slots=True)
class Row:
    """One event of a timeline; `xid` is its stamp."""

    seq: int
    author: bytes
    device: bytes
    n: int
    tag: int
    target: int | None
    at_ms: int
    messages: int
    body: bytes
    xid: int
    incarnation: int

    def erase(self) -> None:
        """Blank it."""
        self.tag, self.body = ERASED, ERASED_BODY


@dataclass(slots=True)
class Membership:
    """A member row. `visible`: the intervals that they may read, both ends included; the last is open with 0."""

    role: Role
    visible: list[tuple[int, int]]
    from_seq: int
    xid: int
    member: bool = True
    delivered: int = 0
    read: int = 0
    read_messages: int = 0

    def sees(self, seq: int) -> bool:
        """Whether they may read this number."""
        return any(first <= seq and (last == 0 or seq <= last) for first, last in self.visible)

    @property
    def until(self) -> int:
        """The last number that they see; 0: there is no last one."""
        return self.visible[-1][1]


@dataclass(slots=True)
class Dialog:
    """A head, with all that belongs to its dialog."""

    dialog: bytes
    type: DialogType
    mode: Mode
    look: DialogCreated | SettingsChanged
    xid: int = 0
    receipts_xid: int = 0
    roster_seq: int = 1
    keys_seq: int = 0
    rows: list[Row] = field(default_factory=list)
    by_number: dict[tuple[bytes, int], Row] = field(default_factory=dict)
    last_n: dict[bytes, int] = field(default_factory=dict)
    members: dict[bytes, Membership] = field(default_factory=dict)

    @property
    def seq(self) -> int:
        """The newest number."""
        return len(self.rows)

    @property
    def messages(self) -> int:
        """How many messages there are."""
        return self.rows[-1].messages if self.rows else 0

    @property
    def rule(self) -> TypeRule:
        """What holds for its type."""
        return DIALOG_TYPES[self.type]

    @property
    def member_count(self) -> int:
        """How many are members now."""
        return sum(each.member for each in self.members.values())

    @property
    def admin_count(self) -> int:
        """How many of them are admins."""
        return sum(each.member and each.role is Role.ADMIN for each in self.members.values())

    def find(self, seq: int | None) -> Row | None:
        """The row with this number."""
        return self.rows[seq - 1] if seq is not None and 1 <= seq <= len(self.rows) else None

    def role_of(self, principal: bytes) -> Role | None:
        """The role of a member; None when that is no member."""
        found = self.members.get(principal)
        return found.role if found is not None and found.member else None

    def append(self, row: Row) -> None:
        """Append a row whose number and stamp are right, and move the head."""
        assert row.seq == len(self.rows) + 1
        assert row.xid >= self.xid, "within a dialog stamps never fall"
        self.rows.append(row)
        self.xid = row.xid
        if row.n:
            self.by_number[row.device, row.n] = row
            self.last_n[row.device] = max(row.n, self.last_n.get(row.device, 0))

    def hangs_on_erased(self, row: Row) -> bool:
        """Whether it is an edit or a reaction of an erased message."""
        if row.tag not in HANGS_ON_A_MESSAGE:
            return False
        target = self.find(row.target)
        return target is not None and target.tag == ERASED

    def shown(self, row: Row) -> TimelineEventRaw:
        """A row as it is read."""
        body = ERASED_BODY if self.hangs_on_erased(row) else row.body
        return TimelineEventRaw(
            self.dialog, row.seq, row.author, row.device, row.n, row.at_ms, row.messages, msgspec.Raw(body)
        )

    def first_unseen(self, since: int) -> int:
        """The first number that a horizon does not cover."""
        return bisect_left(self.rows, since, key=lambda row: row.xid) + 1
