"""Receipts: delivered before a position passes them; a fault that loses some stops nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence

import pytest

from protocol.commands import HighWaterMark
from protocol.dialog_types import DialogType
from protocol.events import ReceiptChanged
from protocol.ids import new_id
from server.delivery import receipts as module
from server.delivery.receipts import Receipts
from server.delivery.registry import Registry
from server.delivery.rooms import Rooms
from storage.postgres.journal import PostgresJournal
from storage.rows import RaisedReceipt, ReceiptRow
from storage.unavailable import NothingWrittenError, StorageUnavailableError
from tests.server.delivery.stand_in import StandIn, frame_of
from tests.support.faulty import FaultyTimelines
from tests.support.no_shares import NO_SHARES
from tests.support.turns import until
from tests.support.world import World

pytestmark = pytest.mark.anyio


async def test_settled_means_that_what_is_stored_was_delivered(world: World) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    timelines, registry = FaultyTimelines(world), Registry()
    timelines.gate = asyncio.Event()
    rooms = Rooms(timelines, NO_SHARES, registry, asyncio.ensure_future, rooms_max=9)
    receipts = Receipts(world.journal, registry, rooms, incarnation=world.incarnation, epoch=await world.read_epoch())
    await receipts.wait_settled()
    receipts.note(ann.principal, HighWaterMark(dialog, 1, 1))
    flush = asyncio.ensure_future(receipts.flush())
    await until(lambda: timelines.reads)  # stored, and on the way to the others
    settled = asyncio.ensure_future(receipts.wait_settled())
    await asyncio.sleep(0)
    assert not settled.done()
    timelines.gate.set()
    await settled
    await flush


async def test_a_receipt_that_cannot_be_stored_stops_no_other(world: World, caplog: pytest.LogCaptureFixture) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    registry = Registry()
    rooms = Rooms(world.timelines, NO_SHARES, registry, asyncio.ensure_future, rooms_max=9)
    receipts = Receipts(world.journal, registry, rooms, incarnation=world.incarnation, epoch=await world.read_epoch())
    receipts.note(ann.principal, HighWaterMark(dialog, 2**70, 0))
    await receipts.flush()
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    receipts.note(ann.principal, HighWaterMark(dialog, 1, 1))
    await receipts.flush()
    assert await world.pool.fetchval("SELECT read FROM members WHERE principal_id = $1", ann.principal) == 1


async def test_receipts_that_wait_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_GATHERED_MAX", 2)
    registry = Registry()
    rooms = Rooms(world.timelines, NO_SHARES, registry, asyncio.ensure_future, rooms_max=9)
    receipts = Receipts(world.journal, registry, rooms, incarnation=world.incarnation, epoch=await world.read_epoch())
    ann, dialogs = await world.person(), [new_id() for _ in range(3)]
    assert [receipts.note(ann.principal, HighWaterMark(dialog, 1, 1)) for dialog in dialogs] == [True, True, False]
    assert receipts.note(ann.principal, HighWaterMark(dialogs[0], 2, 2))
    await receipts.flush()
    assert receipts.note(ann.principal, HighWaterMark(dialogs[2], 1, 1))


async def test_receipts_whose_reply_was_lost_are_delivered_by_the_repeat(world: World) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    registry, raised = Registry(), []
    rooms = Rooms(world.timelines, NO_SHARES, registry, asyncio.ensure_future, rooms_max=9)
    lost = LostReply(world.pool, world.pool)
    receipts = Receipts(lost, registry, rooms, incarnation=world.incarnation, epoch=await world.read_epoch())

    async def deliver(receipt: RaisedReceipt) -> None:
        raised.append((receipt.principal, receipt.read))

    receipts._deliver = deliver  # type: ignore[method-assign]
    receipts.note(bo.principal, HighWaterMark(dialog, 1, 1))
    await receipts.flush()
    assert (lost.calls, raised) == (1, [])
    settled = asyncio.ensure_future(receipts.wait_settled())
    lost.error = NothingWrittenError("injected")  # of this call, not of the one before
    await receipts.flush()
    for _ in range(9):
        await asyncio.sleep(0)
    assert not settled.done(), "a position would pass what nobody was told"
    await receipts.flush()
    await settled
    assert raised == [(bo.principal, 1)]
    receipts.note(bo.principal, HighWaterMark(dialog, 1, 1))  # as a client does at each sync
    await receipts.flush()
    assert raised == [(bo.principal, 1)]


async def test_receipts_that_did_not_reach_the_store_hold_no_position(world: World) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    registry = Registry()
    rooms = Rooms(world.timelines, NO_SHARES, registry, asyncio.ensure_future, rooms_max=9)
    lost = LostReply(world.pool, world.pool)
    lost.error = NothingWrittenError("injected")
    receipts = Receipts(lost, registry, rooms, incarnation=world.incarnation, epoch=await world.read_epoch())
    receipts.note(bo.principal, HighWaterMark(dialog, 1, 1))
    await receipts.flush()
    assert (lost.calls, len(receipts)) == (0, 1)
    async with asyncio.timeout(20):
        await receipts.wait_settled()


async def test_what_waits_for_a_roster_when_an_epoch_begins_is_told_to_nobody(world: World) -> None:
    """As when a standby that is behind takes over: whose session came since has read the store of the new history."""
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    timelines, registry, later = FaultyTimelines(world), Registry(), StandIn(bo.principal)
    timelines.gate = asyncio.Event()
    rooms = Rooms(timelines, NO_SHARES, registry, asyncio.ensure_future, rooms_max=9)
    receipts = Receipts(world.journal, registry, rooms, incarnation=world.incarnation, epoch=await world.read_epoch())
    told: list[ReceiptChanged] = []

    def tell(principals: Iterable[bytes], receipt: ReceiptChanged, *, shared: bool) -> None:
        assert shared
        assert principals
        told.append(receipt)

    receipts.tell = tell
    receipts.note(ann.principal, HighWaterMark(dialog, 1, 1))
    flush = asyncio.ensure_future(receipts.flush())
    await until(lambda: timelines.reads)
    receipts.begin_epoch(await begin_epoch(world))
    registry.attach(later)
    receipts.note(bo.principal, HighWaterMark(dialog, 1, 1))
    timelines.gate.set()
    await flush
    assert (later.states, told) == ([], [])
    await receipts.flush()
    assert told == [ReceiptChanged(dialog, bo.principal, 1, 1)]


async def test_what_is_gathered_when_an_epoch_begins_is_not_stored(world: World) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    registry = Registry()
    rooms = Rooms(world.timelines, NO_SHARES, registry, asyncio.ensure_future, rooms_max=9)
    receipts = Receipts(world.journal, registry, rooms, incarnation=world.incarnation, epoch=await world.read_epoch())
    receipts.note(bo.principal, HighWaterMark(dialog, 1, 1))
    receipts.begin_epoch(await begin_epoch(world))
    await receipts.flush()
    assert await world.pool.fetchval("SELECT read FROM members WHERE principal_id = $1", bo.principal) == 0


@pytest.mark.parametrize("answered", [True, False])
async def test_what_an_epoch_finds_on_its_way_to_the_store_is_told_as_it_is_stored(
    world: World, *, answered: bool
) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    registry, listener, journal = Registry(), StandIn(bo.principal), LostReply(world.pool, world.pool)
    registry.attach(listener)
    rooms = Rooms(world.timelines, NO_SHARES, registry, asyncio.ensure_future, rooms_max=9)
    receipts = Receipts(journal, registry, rooms, incarnation=world.incarnation, epoch=await world.read_epoch())
    journal.calls = 1 if answered else 0

    async def begin() -> None:
        receipts.begin_epoch(await begin_epoch(world))

    journal.stored = begin
    receipts.note(bo.principal, HighWaterMark(dialog, 9, 9))  # of a history in which there was more
    await receipts.flush()
    settled = asyncio.ensure_future(receipts.wait_settled())
    assert listener.states == []
    await receipts.flush()
    await settled
    assert listener.states == [frame_of(ReceiptChanged(dialog, bo.principal, 1, 1))]


async def begin_epoch(world: World) -> int:
    """Begin an epoch in the database."""
    epoch: int = await world.pool.fetchval("UPDATE deployment SET epoch = epoch + 1 RETURNING epoch")
    return epoch


class LostReply(PostgresJournal):
    """A journal whose first answer about receipts is lost after the commit; `error` is raised by the next call.

    `stored` is called after the next commit, before its answer.
    """

    calls = 0
    error: Exception | None = None
    stored: Callable[[], Awaitable[None]] | None = None

    async def raise_receipts(
        self, receipts: Sequence[ReceiptRow], *, incarnation: int, epoch: int
    ) -> list[RaisedReceipt]:
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        raised = await super().raise_receipts(receipts, incarnation=incarnation, epoch=epoch)
        self.calls += 1
        if self.stored is not None:
            await self.stored()
            self.stored = None
        if self.calls == 1:
            raise StorageUnavailableError("injected")
        return raised
