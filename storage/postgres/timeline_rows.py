"""Rows of the journal as the archive keeps them."""

from __future__ import annotations

import asyncpg
import msgspec

from protocol.bodies import TimelineEventRaw
from storage.rows import TimelineRow

ROW_COLUMNS = "dialog_id, seq, author_id, device_id, n, at_ms, messages, body, tag, target"


def make_row(record: asyncpg.Record) -> TimelineRow:
    """The row of a record that begins with `ROW_COLUMNS`."""
    dialog, seq, author, device, n, at_ms, messages, body, tag, target, *_ = record
    return TimelineRow(
        TimelineEventRaw(dialog, seq, author, device, n, at_ms, messages, msgspec.Raw(body)), tag, target
    )
