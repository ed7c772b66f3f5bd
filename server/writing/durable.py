"""What a flush made durable, on its way to delivery."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from protocol.bodies import TimelineEventRaw
from storage.rows import ChangeEntry


class DurableEvents(msgspec.Struct, frozen=True):
    """Events of one dialog that are durable now, to be delivered to its members."""

    dialog: bytes
    events: tuple[TimelineEventRaw, ...]
    roster_seq: int
    change: ChangeEntry | None = None
    """The change that was made; None for content."""
    member_count: int = 0
    """Of the dialog after these events; 0: not known, since an earlier call, whose answer was lost, may be theirs."""
    may_bring_keys: bool = True
    """Whether an event may name a share of keys."""


Route = Callable[[Sequence[DurableEvents]], None]
"""Called after the commit, in the order of the numbers of each dialog."""
