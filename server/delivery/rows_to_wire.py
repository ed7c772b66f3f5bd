"""Rows of storage as the wire shows them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from protocol.bodies import TimelineEventRaw
from protocol.events import DialogState
from protocol.replies import Member
from storage.rows import DialogRow, JournalRow, MemberRow


def timeline_event(row: JournalRow) -> TimelineEventRaw:
    """The wire event of a stored row."""
    return TimelineEventRaw(
        row.dialog, row.seq, row.author, row.device, row.n, row.at_ms, row.messages, msgspec.Raw(row.body)
    )


def member(row: MemberRow) -> Member:
    """A member as others see them."""
    return Member(row.principal, row.role, row.name, row.delivered, row.read)


def dialog_state(row: DialogRow, members: Sequence[MemberRow], from_seq: int) -> DialogState:
    """The state of a dialog for one member, before its events from `from_seq` on."""
    return DialogState(
        dialog=row.dialog,
        type=row.type,
        mode=row.mode,
        name=row.name,
        description=row.description,
        avatar_url=row.avatar_url,
        settings=row.settings,
        role=row.role,
        member=row.member,
        seq=visible_head(row),
        messages=row.messages,
        keys_seq=row.keys_seq if row.member else 0,
        member_count=row.member_count if row.member else 0,
        first_seq=first_visible(row, from_seq),
        visible=list(row.visible),
        delivered=row.delivered,
        read=row.read,
        read_messages=row.read_messages,
        muted_until_ms=row.muted_until_ms,
        members=[member(each) for each in members],
    )


def visible_head(row: DialogRow) -> int:
    """The newest number the member may see."""
    last = row.visible[-1][1] if row.visible else 0
    return row.seq if row.member else last


def first_visible(row: DialogRow, from_seq: int) -> int:
    """The first number from `from_seq` on that the member may see; one past the head if there is none."""
    for first, last in row.visible:
        if last == 0 or last >= from_seq:
            return max(first, from_seq)
    return max(visible_head(row) + 1, from_seq)
