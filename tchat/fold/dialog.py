"""One dialog as the fold holds it: fields, members, receipts, messages and notices.

A new body that changes one field of the dialog needs the field in `DialogView`, a case in `_fold_fields`, and a line
in `apply_state` where the state carries the field, too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from protocol.bodies import (
    Deleted,
    Demoted,
    DevicesChanged,
    DialogCreated,
    DialogDeleted,
    Edited,
    Erased,
    MemberLeft,
    MemberRemoved,
    MembersAdded,
    Pinned,
    Posted,
    Promoted,
    Reacted,
    Settings,
    SettingsChanged,
    TimelineEvent,
)
from protocol.commerce.payment_notice import PaymentNotice
from protocol.dialog_types import DialogType, Mode, Role
from protocol.events import DialogState, MissedChanges, ReceiptChanged
from protocol.replies import HistoryPage, RosterPage
from tchat.fold.message import Message
from tchat.fold.payment_notices import newest_notices

MESSAGES_KEPT_MAX = 20_000
"""Messages kept per dialog; above it the oldest are dropped (`history` brings them back)."""


@dataclass(slots=True)
class MemberReceipt:
    """How far a member has received and read."""

    delivered: int = 0
    read: int = 0

    def raise_to(self, delivered: int, read: int) -> None:
        """Receipts only grow; what was read was received."""
        self.read = max(self.read, read)
        self.delivered = max(self.delivered, delivered, self.read)


@dataclass(slots=True)
class _Seat:
    """A member's role since event `seq`, None after they left."""

    seq: int
    role: Role | None
    name: str = ""


@dataclass(slots=True)
class DialogView:
    """One dialog as `me` sees it. From `loaded_from` on, every visible event is loaded."""

    dialog: bytes
    me: bytes
    type: DialogType
    mode: Mode
    name: str = ""
    description: str = ""
    avatar_url: str = ""
    settings: Settings = field(default_factory=Settings)
    seq: int = 0
    messages: int = 0
    read_messages: int = 0
    keys_seq: int = 0
    muted_until_ms: int = 0
    pinned: int | None = None
    deleted: bool = False
    loaded_from: int = 1
    visible: list[tuple[int, int]] = field(default_factory=list)
    receipts: dict[bytes, MemberReceipt] = field(default_factory=dict)
    notices: dict[int, TimelineEvent] = field(default_factory=dict)
    _records: dict[int, Message] = field(default_factory=dict)
    _seats: dict[bytes, _Seat] = field(default_factory=dict)
    _state_seq: int = 0
    _state_members: int = 0
    _set_at: dict[str, int] = field(default_factory=dict)
    _member_deltas: dict[int, int] = field(default_factory=dict)
    _muted_seq: int = 0
    _have: int = 0

    @property
    def member(self) -> bool:
        """Whether `me` is a member now."""
        seat = self._seats.get(self.me)
        return seat is not None and seat.role is not None

    @property
    def role(self) -> Role:
        """The role of `me`."""
        seat = self._seats.get(self.me)
        return (seat.role if seat else None) or Role.MEMBER

    @property
    def member_count(self) -> int:
        """The number of members."""
        return self._state_members + sum(self._member_deltas.values())

    @property
    def members(self) -> dict[bytes, Role] | None:
        """All members and their roles; None in a large dialog until `roster` brought all of them."""
        present = {who: seat.role for who, seat in self._seats.items() if seat.role is not None}
        return present if len(present) == self.member_count else None

    @property
    def unread(self) -> int:
        """The number of messages that `me` has not read."""
        return max(0, self.messages - self.read_messages)

    @property
    def complete(self) -> bool:
        """Whether every visible event is loaded, back to the beginning."""
        return not self.visible or self.loaded_from <= self.visible[0][0]

    def name_of(self, principal: bytes) -> str:
        """The display name of a present or former member; empty if unknown."""
        seat = self._seats.get(principal)
        return seat.name if seat else ""

    def message(self, seq: int) -> Message | None:
        """The message with this number, if it is loaded."""
        record = self._records.get(seq)
        return record if record is not None and record.known else None

    def timeline(self) -> list[Message | TimelineEvent]:
        """Messages and notices (changes of members, settings and the like) in order."""
        entries: list[Message | TimelineEvent] = [record for record in self._records.values() if record.known]
        entries.extend(self.notices.values())
        return sorted(entries, key=lambda entry: entry.seq)

    @property
    def payments(self) -> dict[bytes, PaymentNotice]:
        """By payment the newest state that a loaded event shows."""
        return newest_notices(record for _, record in sorted(self._records.items()))

    def apply_state(self, state: DialogState) -> None:
        """Take over the state of the dialog as of `state.seq`."""
        if state.first_seq > self._have + 1:
            self.loaded_from, self._have = state.first_seq, state.first_seq - 1
        self.seq = max(self.seq, state.seq)
        self.visible = list(state.visible)
        self.muted_until_ms = state.muted_until_ms
        self.messages = max(self.messages, state.messages)
        self.keys_seq = max(self.keys_seq, state.keys_seq)
        self.read_messages = max(self.read_messages, state.read_messages)
        self._receipt_of(self.me).raise_to(state.delivered, state.read)
        self._set_settings(state.seq, state)
        self._set(state.seq, pinned=state.pinned)
        self.deleted = self.deleted or state.deleted
        if state.seq >= self._state_seq:
            self._seat_all(state)

    def apply_event(self, event: TimelineEvent, *, live: bool = True) -> None:
        """Fold an event: contiguous (`live`), or from a page of history, which does not move the head."""
        if live:
            self._have = max(self._have, event.seq)
            self.seq = max(self.seq, event.seq)
            self.messages = max(self.messages, event.messages)
        if not self._fold_content(event):
            self.notices[event.seq] = event
            if event.seq > self._state_seq:
                self._fold_roster(event)
            self._fold_fields(event)
        self._drop_oldest()

    def apply_page(self, page: HistoryPage) -> None:
        """Fold a page of history; one that reaches `loaded_from` moves it down."""
        for event in (*page.events, *page.later):
            self.apply_event(event, live=False)
        if page.events and page.events[0].seq < self.loaded_from <= page.events[-1].seq + 1:
            self.loaded_from = page.events[0].seq

    def apply(self, message: RosterPage | ReceiptChanged | MissedChanges) -> None:
        """Fold what is neither the state nor an event of the dialog."""
        match message:
            case RosterPage():
                self.apply_roster(message)
            case ReceiptChanged():
                self.apply_receipt(message)
            case MissedChanges():
                self.apply_missed(message)

    def apply_missed(self, missed: MissedChanges) -> None:
        """Fold what was done while `me` was away; when that is too much, drop what is older than the return."""
        for event in missed.events:
            self.apply_event(event, live=False)
        if not missed.complete:
            for held in (self._records, self.notices):
                for seq in [seq for seq in held if seq < missed.before_seq]:
                    del held[seq]
            self.loaded_from = max(self.loaded_from, missed.before_seq)

    def apply_roster(self, page: RosterPage) -> None:
        """Take over a page of members."""
        for member in page.members:
            seat = self._seats.setdefault(member.principal, _Seat(self._state_seq, member.role))
            seat.name = member.name
            self._receipt_of(member.principal).raise_to(member.delivered, member.read)

    def apply_receipt(self, receipt: ReceiptChanged) -> None:
        """Raise the receipt of a member, possibly of `me` by another device."""
        self._receipt_of(receipt.principal).raise_to(receipt.delivered, receipt.read)
        if receipt.principal == self.me:
            self.read_messages = max(self.read_messages, receipt.read_messages)

    def raise_own_receipt(self, delivered: int, read: int) -> None:
        """Raise the receipt of `me` at once; `unread` follows as far as the loaded messages allow."""
        mine = self._receipt_of(self.me)
        mine.raise_to(delivered, read)
        if mine.read >= self.seq:
            self.read_messages = max(self.read_messages, self.messages)
        elif (record := self._records.get(read)) is not None:
            self.read_messages = max(self.read_messages, record.messages)

    def expire(self, now_ms: int) -> bool:
        """Hide the messages whose time is over, as the server erases them without an event; whether there were any."""
        days = self.settings.message_retention_days
        due = [
            each for each in self._records.values() if (ends := each.ends_at_ms(days)) is not None and ends <= now_ms
        ]
        for record in due:
            record.expire()
        return bool(due)

    def mark_unreadable(self, seq: int, body: Posted | Edited, reason: str) -> None:
        """Why event `seq`, a message or an edit, is not shown."""
        if isinstance(body, Posted):
            self._record(seq).unreadable = reason
        else:
            self._record(body.target).unreadable_edit = (seq, reason)

    def mute(self, seq: int, until_ms: int) -> None:
        """Apply a mute, which is event `seq` of the `self` dialog."""
        if seq > self._muted_seq:
            self._muted_seq, self.muted_until_ms = seq, until_ms

    def canonical(self) -> dict[str, Any]:
        """Comparable plain data: all that is durable. Receipts are not: they are coalesced and repeated."""
        lines = {seq: record.canonical() for seq, record in sorted(self._records.items()) if record.known}
        plain: dict[str, Any] = {
            "type": self.type.name,
            "mode": self.mode.name,
            "member": self.member,
            "lines": lines,
            "notices": {seq: _plain_notice(event) for seq, event in sorted(self.notices.items())},
        }
        if not self.member:
            return plain
        members = self.members
        return plain | {
            "name": self.name,
            "description": self.description,
            "avatar_url": self.avatar_url,
            "settings": msgspec.to_builtins(self.settings),
            "role": self.role.name,
            "seq": self.seq,
            "messages": self.messages,
            "keys_seq": self.keys_seq,
            "member_count": self.member_count,
            "members": None if members is None else {who.hex(): role.name for who, role in sorted(members.items())},
            "muted_until_ms": self.muted_until_ms,
            "pinned": self.pinned,
            "deleted": self.deleted,
        }

    def _fold_content(self, event: TimelineEvent) -> bool:
        """Fold messages, edits, deletions and reactions; False if the event is something else."""
        match event.body:
            case Posted() as body:
                self._record(event.seq).post(event, body)
                self._receipt_of(event.author).raise_to(event.seq, event.seq)
                if event.author == self.me:
                    self.read_messages = max(self.read_messages, event.messages)
            case Edited() as body:
                self._record(body.target).replace(event.seq, body)
            case Deleted(target=target):
                self._record(target).delete()
            case Reacted(target=target, payload=payload):
                self._record(target).react(event.seq, event.author, payload)
            case Erased():
                self._record(event.seq).erase(event)
            case _:
                return False
        return True

    def _fold_roster(self, event: TimelineEvent) -> None:
        """Fold changes of the roster that no `DialogState` contained yet."""
        match event.body:
            case DialogCreated(members=members):
                for member in members:
                    self._seat(event.seq, member.principal, member.role)
                self._member_deltas[event.seq] = len(members)
            case MembersAdded(members=added):
                for principal in added:
                    self._seat(event.seq, principal, Role.MEMBER)
                    self._receipt_of(principal).raise_to(event.seq, event.seq)
                self._member_deltas[event.seq] = len(added)
                self.keys_seq = max(self.keys_seq, event.seq)
            case MemberRemoved(member=removed):
                self._unseat(event.seq, removed)
            case MemberLeft():
                self._unseat(event.seq, event.author)
            case Promoted(member=member):
                self._seat(event.seq, member, Role.ADMIN)
            case Demoted(member=member):
                self._seat(event.seq, member, Role.MEMBER)
            case DevicesChanged():
                self.keys_seq = max(self.keys_seq, event.seq)
            case _:
                pass

    def _fold_fields(self, event: TimelineEvent) -> None:
        """Fold changes of the fields of the dialog."""
        match event.body:
            case DialogCreated() | SettingsChanged() as body:
                self._set_settings(event.seq, body)
            case Pinned(target=target):
                self._set(event.seq, pinned=target)
            case DialogDeleted():
                self.deleted = True
            case _:
                pass

    def _set_settings(self, seq: int, source: DialogState | DialogCreated | SettingsChanged) -> None:
        self._set(
            seq,
            name=source.name,
            description=source.description,
            avatar_url=source.avatar_url,
            settings=source.settings,
        )

    def _set(self, seq: int, **fields: object) -> None:
        """Set fields as of `seq`. Each is a register: the highest `seq` wins, in whatever order they come."""
        for name, value in fields.items():
            if seq >= self._set_at.get(name, 0):
                self._set_at[name] = seq
                setattr(self, name, value)

    def _seat_all(self, state: DialogState) -> None:
        """Take over the members of the state, except where a newer event changed one; others are no longer members."""
        for seat in self._seats.values():
            if seat.seq <= state.seq:
                seat.role = None
        for member in state.members:
            self._seat(state.seq, member.principal, member.role)
            self._seats[member.principal].name = member.name
            self._receipt_of(member.principal).raise_to(member.delivered, member.read)
        self._seat(state.seq, self.me, state.role if state.member else None)
        self._state_seq, self._state_members = state.seq, state.member_count
        self._member_deltas = {seq: delta for seq, delta in self._member_deltas.items() if seq > state.seq}

    def _seat(self, seq: int, principal: bytes, role: Role | None) -> None:
        seat = self._seats.setdefault(principal, _Seat(seq, role))
        if seq >= seat.seq:
            seat.seq, seat.role = seq, role

    def _unseat(self, seq: int, principal: bytes) -> None:
        self._seat(seq, principal, None)
        self._member_deltas[seq] = -1
        self.keys_seq = max(self.keys_seq, seq)

    def _record(self, seq: int) -> Message:
        record = self._records.get(seq)
        if record is None:
            record = self._records[seq] = Message(seq)
        return record

    def _receipt_of(self, principal: bytes) -> MemberReceipt:
        receipt = self.receipts.get(principal)
        if receipt is None:
            receipt = self.receipts[principal] = MemberReceipt()
        return receipt

    def _drop_oldest(self) -> None:
        """Drop the oldest messages and notices; an eighth at once, so that it is rarely necessary."""
        for held in (self._records, self.notices):
            if len(held) > MESSAGES_KEPT_MAX:
                for seq in sorted(held)[: MESSAGES_KEPT_MAX // 8]:
                    del held[seq]
                    self.loaded_from = max(self.loaded_from, seq + 1)


def _plain_notice(event: TimelineEvent) -> Any:
    return msgspec.to_builtins((event.author, event.n, event.at_ms, event.messages, event.body))
