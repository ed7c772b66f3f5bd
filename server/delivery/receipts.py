"""Receipts: high-water marks, gathered for a moment, raised in one statement, then delivered.

High-water marks only grow, so what is gathered is one pair of numbers per member and dialog. A crash that loses it does
no harm: clients repeat their receipts at sync. What was raised by a call whose reply was lost is raised `again`, so
that it is delivered; until then no position passes it (`wait_settled`): a resume would not bring it.

When an epoch begins, what is gathered is forgotten: its numbers may be those of other events by now. What may be stored
nevertheless is told as the store has it then; a call of the epoch before that arrives later stores nothing.

One case is left. Other nodes hear of a receipt from this one, best effort, and do not wait for it. When it is lost on
the way, or this node ends in between, a session there shows an older mark until the member's next receipt in that
dialog. A mark is never wrong, only late, and no event depends on it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import Protocol

from protocol.commands import HighWaterMark
from protocol.events import ReceiptChanged
from protocol.limits import STATE_MEMBERS_MAX
from server.delivery.prepared_message import PreparedMessage
from server.delivery.registry import Registry
from server.delivery.rooms import Rooms
from server.writing.put_back import PutBack
from storage.rows import RaisedReceipt, ReceiptRow
from storage.timelines import Journal
from storage.unavailable import IncarnationEndedError, NothingWrittenError, StorageUnavailableError

_log = logging.getLogger(__name__)

_GATHERED_MAX = 100_000
_BATCH_MAX = 2_000


class Tell(Protocol):
    """Tells the nodes where these people are; the other members are among them if the receipt is `shared`."""

    def __call__(self, principals: Iterable[bytes], receipt: ReceiptChanged, *, shared: bool) -> None:
        """Called after delivery here."""


class Receipts:
    """The receipts that members of this node have reported; `run` stores and delivers them."""

    def __init__(
        self,
        journal: Journal,
        registry: Registry,
        rooms: Rooms,
        *,
        incarnation: int,
        epoch: int,
        put_back: PutBack | None = None,
    ) -> None:
        self._journal = journal
        self._incarnation = incarnation
        self._epoch = epoch
        self._put_back = put_back
        self._registry = registry
        self._rooms = rooms
        self._gathered: dict[tuple[bytes, bytes], ReceiptRow] = {}
        self._flushing = asyncio.Lock()
        self._fate_known = asyncio.Event()
        """Not set: what was gathered may be stored, and nobody was told."""
        self._fate_known.set()
        self.tell: Tell | None = None
        """Tells other nodes, where there are any."""
        self.raised = 0
        """Receipts that were stored since the start, each higher than the one before."""

    def __len__(self) -> int:
        return len(self._gathered)

    def note(self, principal: bytes, high_water: HighWaterMark, *, again: bool = False) -> bool:
        """Gather a receipt; False when too many wait."""
        key = (high_water.dialog, principal)
        known = self._gathered.get(key)
        if known is None and len(self._gathered) >= _GATHERED_MAX:
            return False
        self._gathered[key] = ReceiptRow(
            high_water.dialog,
            principal,
            max(high_water.delivered, known.delivered if known else 0),
            max(high_water.read, known.read if known else 0),
            again or (known is not None and known.again),
        )
        return True

    def begin_epoch(self, epoch: int) -> None:
        """Raise nothing and tell nothing of the epoch before."""
        gathered, self._gathered = self._gathered, {}
        before, self._epoch = self._epoch, epoch
        self._gather_again([row for row in gathered.values() if row.again], before, unknown=True)

    async def wait_settled(self) -> None:
        """Return once everything that is stored now has been delivered, whether or not an answer about it came."""
        async with self._flushing:
            pass
        await self._fate_known.wait()

    async def flush(self) -> None:
        """Raise what was gathered and deliver it; on failure it stays gathered. Raises IncarnationEndedError."""
        async with self._flushing:
            await self._flush()

    async def run(self, interval_s: float) -> None:
        """Flush every `interval_s` until cancelled. Raises IncarnationEndedError."""
        while True:
            await asyncio.sleep(interval_s)
            await self.flush()

    async def _flush(self) -> None:
        archived: list[RaisedReceipt] = []
        epoch = self._epoch
        while self._gathered:
            keys = list(self._gathered)[:_BATCH_MAX]
            raised = await self._raise([self._gathered.pop(key) for key in keys])
            if raised is None:
                return
            for receipt in raised:
                if receipt.read_messages is None:
                    archived.append(receipt)
                else:
                    self.raised += 1
                    await self._deliver(receipt)
                    if epoch != self._epoch:  # who is here now has read the store since
                        return
        self._fate_known.set()
        for receipt in archived:  # raised by a later flush
            if self._put_back is not None:
                self._put_back.want(receipt.dialog, receipt.read)
            self.note(receipt.principal, HighWaterMark(receipt.dialog, receipt.delivered, receipt.read))

    async def _raise(self, rows: Sequence[ReceiptRow]) -> list[RaisedReceipt] | None:
        """Raise these; None when they wait for the next flush."""
        epoch = self._epoch
        try:
            raised = await self._journal.raise_receipts(rows, incarnation=self._incarnation, epoch=epoch)
        except IncarnationEndedError:
            raise
        except StorageUnavailableError as error:
            _log.warning("receipts wait: %s", error)
            self._gather_again(rows, epoch, unknown=not isinstance(error, NothingWrittenError))
            return None
        except Exception:  # noqa: BLE001 - clients repeat their receipts; the node goes on
            _log.exception("%d receipts are lost", len(rows))
            return []
        if epoch != self._epoch:
            self._gather_again(rows, epoch, unknown=True)
            return None
        return raised

    def _gather_again(self, rows: Sequence[ReceiptRow], epoch: int, *, unknown: bool) -> None:
        """Have the next flush raise these; `unknown`: the one before may have stored them.

        Of those of an earlier epoch it only tells what the store has, if that may be they.
        """
        if epoch != self._epoch:
            rows = [ReceiptRow(row.dialog, row.principal, 0, 0) for row in rows if unknown]
        if unknown and rows:
            self._fate_known.clear()
        for row in rows:
            high_water = HighWaterMark(row.dialog, row.delivered, row.read)
            self.note(row.principal, high_water, again=row.again or unknown)

    async def _deliver(self, receipt: RaisedReceipt) -> None:
        dialog, principal, epoch = receipt.dialog, receipt.principal, self._epoch
        changed = ReceiptChanged(dialog, principal, receipt.delivered, receipt.read, receipt.read_messages or 0)
        prepared = PreparedMessage(changed)
        for subscriber in self._registry.subscribers_of(principal):
            subscriber.outbox.push_state((dialog, principal), prepared)
        told = {principal}
        shared = receipt.shared and receipt.member_count <= STATE_MEMBERS_MAX
        if shared:
            room = await self._rooms.open(dialog)
            if epoch != self._epoch:
                return
            self._rooms.deliver_receipt(room, dialog, principal, prepared)
            told.update(room.members)
        if self.tell is not None:
            self.tell(told, changed, shared=shared)
