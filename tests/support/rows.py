"""Rows of timelines as they are stored, for what archives them."""

from __future__ import annotations

import msgspec

from protocol import bodies
from protocol.bodies import Body, TimelineEventRaw, tag_of
from protocol.kinds import Kind
from storage.rows import TimelineRow

AUTHOR = bytes(range(16))
DEVICE = bytes(range(16, 32))
ERASED_TAG = tag_of(bodies.Erased)


def make_row(dialog: bytes, seq: int, body: Body, *, target: int | None = None) -> TimelineRow:
    """A row with this body."""
    raw = msgspec.Raw(msgspec.msgpack.encode(body))
    event = TimelineEventRaw(dialog, seq, AUTHOR, DEVICE, seq + 1, 1_000 + seq, seq, raw)
    return TimelineRow(event, tag_of(type(body)), target)


def posted(dialog: bytes, seq: int, text: str = "", *, reply_to: int | None = None) -> TimelineRow:
    """A message."""
    header = bodies.Header(reply_to=reply_to)
    body = bodies.Posted(Kind.MESSAGE, header, (text or f"message {seq}").encode())
    return make_row(dialog, seq, body, target=reply_to)


def edited(dialog: bytes, seq: int, target: int, text: str = "edited") -> TimelineRow:
    """An edit of a message."""
    return make_row(dialog, seq, bodies.Edited(target, text.encode()), target=target)


def reacted(dialog: bytes, seq: int, target: int) -> TimelineRow:
    """A reaction to a message."""
    return make_row(dialog, seq, bodies.Reacted(target, b"+1"), target=target)


def deleted(dialog: bytes, seq: int, target: int) -> TimelineRow:
    """A deletion of a message."""
    return make_row(dialog, seq, bodies.Deleted(target), target=target)


def erased(row: TimelineRow) -> TimelineRow:
    """The row after its erasure."""
    blank = msgspec.Raw(msgspec.msgpack.encode(bodies.Erased()))
    return TimelineRow(msgspec.structs.replace(row.event, body=blank), ERASED_TAG, row.target)
