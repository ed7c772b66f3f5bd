"""Receipts: high-water marks, gathered for a moment, raised in one statement, then told.

Marks only grow, so what is gathered is one pair of numbers per member and dialog, and losing it with the
process costs nothing: clients repeat their marks at sync.
"""

from __future__ import annotations

import asyncio
import logging

from protocol.commands import HighWaterMark
from protocol.events import ReceiptChanged
from protocol.limits import STATE_MEMBERS_MAX
from server.delivery.prepared_message import PreparedMessage
from server.delivery.registry import Registry
from server.delivery.rooms import Rooms
from storage.postgres.pool import StorageUnavailableError
from storage.rows import ReceiptRow
from storage.timelines import Journal, RaisedReceipt

_log = logging.getLogger(__name__)

_GATHERED_MAX = 100_000
_BATCH_MAX = 2_000


class Receipts:
    """See the module."""

    def __init__(self, journal: Journal, registry: Registry, rooms: Rooms) -> None:
        self._journal = journal
        self._registry = registry
        self._rooms = rooms
        self._gathered: dict[tuple[bytes, bytes], ReceiptRow] = {}
        self._flushing = asyncio.Lock()

    def note(self, principal: bytes, mark: HighWaterMark) -> bool:
        """Gather a mark; False when too many wait."""
        key = (mark.dialog, principal)
        known = self._gathered.get(key)
        if known is None and len(self._gathered) >= _GATHERED_MAX:
            return False
        self._gathered[key] = ReceiptRow(
            mark.dialog,
            principal,
            max(mark.delivered, known.delivered if known else 0),
            max(mark.read, known.read if known else 0),
        )
        return True

    async def settled(self) -> None:
        """Return once everybody was told of what is stored now."""
        async with self._flushing:
            pass

    async def flush(self) -> None:
        """Raise what was gathered and tell whom it concerns; on failure it stays gathered."""
        async with self._flushing:
            await self._flush()

    async def _flush(self) -> None:
        while self._gathered:
            keys = list(self._gathered)[:_BATCH_MAX]
            marks = [self._gathered.pop(key) for key in keys]
            try:
                grown = await self._journal.mark(marks)
            except StorageUnavailableError as error:
                _log.warning("receipts wait: %s", error)
                for mark in marks:
                    self.note(mark.principal, HighWaterMark(mark.dialog, mark.delivered, mark.read))
                return
            except Exception:  # noqa: BLE001 - marks are repeated by their clients; the node goes on
                _log.exception("%d receipts are lost", len(marks))
                continue
            for mark in grown:
                await self._tell(mark)

    async def run(self, interval_s: float) -> None:
        """Flush every `interval_s`, for ever."""
        while True:
            await asyncio.sleep(interval_s)
            await self.flush()

    async def _tell(self, mark: RaisedReceipt) -> None:
        prepared = PreparedMessage(
            ReceiptChanged(mark.dialog, mark.principal, mark.delivered, mark.read, mark.read_messages)
        )
        for session in self._registry.of(mark.principal):
            session.outbox.mark((mark.dialog, mark.principal), prepared)
        if mark.shared and mark.member_count <= STATE_MEMBERS_MAX:
            await self._rooms.open(mark.dialog)
            self._rooms.mark(mark.dialog, mark.principal, prepared)
