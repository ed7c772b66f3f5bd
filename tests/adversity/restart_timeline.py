"""The truth after a round: the timelines as the stores have them, and who may see what of them, computed again."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace

import asyncpg
import msgspec

from protocol.bodies import (
    AnyBody,
    Deleted,
    DevicesChanged,
    DialogCreated,
    Edited,
    Erased,
    LogHead,
    MemberLeft,
    MemberRemoved,
    MembersAdded,
    Reacted,
    TimelineEvent,
)
from protocol.dialog_types import DIALOG_TYPES, DialogType, Mode
from storage.archive import ARCHIVE_ROWS_MAX, Archive
from tchat.encryption.contents import content_of

_JOURNAL = """
SELECT dialog_id, seq, author_id, device_id, n, at_ms, messages, body FROM journal ORDER BY dialog_id, seq
"""
_MARKS = """
SELECT m.dialog_id, m.principal_id, m.read FROM members m JOIN heads h USING (dialog_id) WHERE m.member
"""
_MOVED = "SELECT count(*) FROM journal WHERE xid < (SELECT moved FROM archiving)"
_ANNOUNCING = "SELECT count(*) FROM log_announcements"
_FOREVER = 2**62
_decode = msgspec.msgpack.Decoder(AnyBody).decode


@dataclass(frozen=True, slots=True)
class Row:
    """One stored event."""

    dialog: bytes
    seq: int
    author: bytes
    device: bytes
    n: int
    at_ms: int
    messages: int
    body: AnyBody


@dataclass
class Timeline:
    """All events of all dialogs."""

    rows: dict[tuple[bytes, int], Row] = field(default_factory=dict)
    heads: dict[bytes, int] = field(default_factory=dict)
    kinds: dict[bytes, tuple[DialogType, Mode]] = field(default_factory=dict)
    visible: dict[tuple[bytes, bytes], list[tuple[int, int]]] = field(default_factory=dict)
    read: dict[tuple[bytes, bytes], int] = field(default_factory=dict)
    deleted_at: dict[tuple[bytes, int], int] = field(default_factory=dict)
    joined: dict[tuple[bytes, bytes], list[int]] = field(default_factory=lambda: defaultdict(list))
    logs: dict[tuple[bytes, bytes], list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))
    """By dialog and member: at which number its events told which length of the member's device log."""
    announcing: int = 0
    """Device logs that events are still to tell."""
    moved: int = 0
    """Rows of the journal that the archive has, too."""
    trimmed: int = 0
    """Rows that only the archive has."""
    by_number: dict[tuple[bytes, int], list[Row]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    async def read_from(cls, url: str, archive: Archive | None = None) -> Timeline:
        """A fresh read of the database; of the archive, the rows that have left the journal."""
        connection = await asyncpg.connect(url)
        try:
            timeline = cls()
            rows: dict[bytes, dict[int, Row]] = {}
            async with connection.transaction(isolation="repeatable_read"):
                for dialog, head in await connection.fetch("SELECT dialog_id, seq FROM heads"):
                    timeline.heads[dialog.bytes], rows[dialog.bytes] = head, {}
                for dialog, seq, author, device, n, at_ms, messages, body in await connection.fetch(_JOURNAL):
                    ids = (dialog.bytes, seq, author.bytes, device.bytes)
                    rows[dialog.bytes][seq] = Row(*ids, n, at_ms, messages, _decode(body))
                for dialog, principal, read in await connection.fetch(_MARKS):
                    timeline.read[dialog.bytes, principal.bytes] = read
                timeline.announcing = await connection.fetchval(_ANNOUNCING)
                timeline.moved = await connection.fetchval(_MOVED)
            if archive is not None:
                await timeline._add_archived(rows, archive)
            for held in rows.values():
                for seq in sorted(held):
                    timeline.append(held[seq])
            timeline.erase_what_hangs()
            return timeline
        finally:
            await connection.close()

    async def _add_archived(self, rows: dict[bytes, dict[int, Row]], archive: Archive) -> None:
        """Take the rows that the journal lacks."""
        for dialog, head in self.heads.items():
            held = rows[dialog]
            first = next((seq for seq in range(1, head + 1) if seq not in held), head + 1)
            while first <= head:
                page = await archive.read_range(dialog, first, head, limit=ARCHIVE_ROWS_MAX, newest_first=False)
                for event in (row.event for row in page if row.event.seq not in held):
                    told = (event.author, event.device, event.n, event.at_ms, event.messages)
                    held[event.seq] = Row(dialog, event.seq, *told, _decode(event.body))
                    self.trimmed += 1
                first = page[-1].event.seq + 1 if page else head + 1

    def dialogs_of(self, principal: bytes) -> list[bytes]:
        """Of which a principal is a member now."""
        return [dialog for dialog, who in self.visible if who == principal and self.is_member(dialog, who)]

    def is_member(self, dialog: bytes, principal: bytes) -> bool:
        """Whether a principal is a member now."""
        intervals = self.visible.get((dialog, principal))
        return intervals is not None and intervals[-1][1] == _FOREVER

    def may_see(self, principal: bytes, dialog: bytes, seq: int) -> bool:
        """Whether a principal may see an event."""
        return any(first <= seq <= last for first, last in self.visible.get((dialog, principal), ()))

    def has_left(self, principal: bytes, dialog: bytes, seq: int) -> bool:
        """Whether a principal, who was a member at an event, left after it."""
        return any(first <= seq <= last < _FOREVER for first, last in self.visible.get((dialog, principal), ()))

    def may_learn(self, principal: bytes, dialog: bytes, seq: int) -> bool:
        """Whether a principal had not left for the last time when this was done to a message."""
        return seq <= max((last for _, last in self.visible.get((dialog, principal), ())), default=0)

    def must_read(self, principal: bytes, listed: int, event: TimelineEvent) -> bool:
        """Whether the device that a log of `listed` entries had first must have the keys of an event; 0: none had it.

        What was done to a message while a member was away is under keys that they did not get.
        """
        content = content_of(event)
        if not listed or content is None or not self.may_see(principal, event.dialog, event.seq):
            return False
        told = self.logs[event.dialog, principal]
        return any(seq <= content.header.keys_seq and length >= listed for seq, length in told)

    def erase_what_hangs(self) -> None:
        """Edits and reactions of an erased message are read as erased, though they may not be blank yet."""
        for key, row in self.rows.items():
            if isinstance(row.body, Edited | Reacted):
                target = self.rows.get((row.dialog, row.body.target))
                if target is not None and isinstance(target.body, Erased):
                    self.rows[key] = replace(row, body=Erased())

    def append(self, row: Row) -> None:
        """Take the next row of its dialog."""
        self.rows[row.dialog, row.seq] = row
        self.heads[row.dialog] = max(row.seq, self.heads.get(row.dialog, 0))
        if row.n:
            self.by_number[row.device, row.n].append(row)
        match row.body:
            case DialogCreated(type=kind, mode=mode, members=members, logs=logs):
                self.kinds[row.dialog] = (kind, mode)
                self._tell_logs(row, [member.principal for member in members], logs)
                for member in members:
                    self.visible[row.dialog, member.principal] = [(1, _FOREVER)]
            case MembersAdded(members=added, logs=logs):
                self._tell_logs(row, added, logs)
                whole = DIALOG_TYPES[self.kinds[row.dialog][0]].full_history
                for who in added:
                    self.joined[row.dialog, who].append(row.seq)
                    intervals = [] if whole else self.visible.get((row.dialog, who), [])
                    self.visible[row.dialog, who] = [*intervals, (1 if whole else row.seq, _FOREVER)]
            case DevicesChanged(principal=who, log=log):
                self._tell_logs(row, [who], [log])
            case Deleted(target=target):
                self.deleted_at[row.dialog, target] = row.seq
            case MemberRemoved(member=who):
                self._close(row, who)
            case MemberLeft():
                self._close(row, row.author)
            case _:
                pass

    def _tell_logs(self, row: Row, members: list[bytes], logs: list[LogHead]) -> None:
        for who, log in zip(members, logs, strict=False):
            self.logs[row.dialog, who].append((row.seq, log.length))

    def _close(self, row: Row, who: bytes) -> None:
        *before, (first, _) = self.visible[row.dialog, who]
        self.visible[row.dialog, who] = [*before, (first, row.seq)]
