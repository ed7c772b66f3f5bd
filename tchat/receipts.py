"""The receipts of this device's person: how far they have received and read, sent at intervals, repeated at sync."""

from __future__ import annotations

from protocol.commands import HighWaterMark, Receipt
from protocol.limits import RECEIPTS_PER_SYNC_MAX

WRITE_EVERY_S = 0.5


class OwnReceipts:
    """Holds the receipts of the dialogs in which they rose last, as many as one sync can carry."""

    def __init__(self) -> None:
        self._newest: dict[bytes, HighWaterMark] = {}
        self._unsent: set[bytes] = set()
        self._next_at = 0.0

    def raise_to(self, dialog: bytes, delivered: int, read: int) -> None:
        """Raise the receipt of a dialog; lower numbers change nothing."""
        old = self._newest.get(dialog, HighWaterMark(dialog))
        read = max(read, old.read)
        new = HighWaterMark(dialog, max(delivered, read, old.delivered), read)
        if new == old:
            return
        self._newest.pop(dialog, None)
        self._newest[dialog] = new
        self._unsent.add(dialog)
        if len(self._newest) > RECEIPTS_PER_SYNC_MAX:
            oldest = next(iter(self._newest))
            del self._newest[oldest]
            self._unsent.discard(oldest)

    def take_all(self) -> list[HighWaterMark]:
        """What a sync carries; nothing is unsent after it."""
        self._unsent.clear()
        return list(self._newest.values())

    def take_due(self, now: float) -> list[Receipt]:
        """What to send now: nothing within WRITE_EVERY_S of the last time."""
        if not self._unsent or now < self._next_at:
            return []
        self._next_at = now + WRITE_EVERY_S
        receipts = [Receipt(0, self._newest[dialog]) for dialog in sorted(self._unsent)]
        self._unsent.clear()
        return receipts

    def next_write(self) -> float | None:
        """When there is something to send, in the caller's time."""
        return self._next_at if self._unsent else None

    def reset(self) -> None:
        """Forget all: the numbers may be those of other events from now on."""
        self._newest.clear()
        self._unsent.clear()

    def disconnected(self) -> None:
        """The next sync repeats everything."""
        self._unsent.clear()
