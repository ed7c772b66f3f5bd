"""One's own marks: how far one has received and read, said now and then, and repeated at every sync."""

from __future__ import annotations

from protocol.commands import HighWaterMark, Receipt
from protocol.limits import RECEIPTS_PER_SYNC_MAX

WRITE_EVERY_S = 0.5


class OwnReceipts:
    """Holds the marks of the dialogs that were marked last, as many as one sync can carry."""

    def __init__(self) -> None:
        self._marks: dict[bytes, HighWaterMark] = {}
        self._unsaid: set[bytes] = set()
        self._next_at = 0.0

    def mark(self, dialog: bytes, delivered: int, read: int) -> None:
        """Raise the marks of a dialog; lower ones change nothing."""
        old = self._marks.get(dialog, HighWaterMark(dialog))
        read = max(read, old.read)
        new = HighWaterMark(dialog, max(delivered, read, old.delivered), read)
        if new == old:
            return
        self._marks.pop(dialog, None)
        self._marks[dialog] = new
        self._unsaid.add(dialog)
        if len(self._marks) > RECEIPTS_PER_SYNC_MAX:
            oldest = next(iter(self._marks))
            del self._marks[oldest]
            self._unsaid.discard(oldest)

    def all(self) -> list[HighWaterMark]:
        """What a sync says; nothing is unsaid after it."""
        self._unsaid.clear()
        return list(self._marks.values())

    def due(self, now: float) -> list[Receipt]:
        """What to say now: nothing within WRITE_EVERY_S of the last time."""
        if not self._unsaid or now < self._next_at:
            return []
        self._next_at = now + WRITE_EVERY_S
        receipts = [Receipt(0, self._marks[dialog]) for dialog in sorted(self._unsaid)]
        self._unsaid.clear()
        return receipts

    def next_write(self) -> float | None:
        """When there will be something to say, in the caller's time."""
        return self._next_at if self._unsaid else None

    def disconnected(self) -> None:
        """The next sync says everything again."""
        self._unsaid.clear()
