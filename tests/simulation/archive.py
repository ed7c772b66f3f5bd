"""The archive of a run: what the mover moves from the database in memory, with faults at each of its calls.

Only the mover runs on it: nothing is trimmed, and nobody reads it but the check in the end, `find_wrong`. A call of the
archive is done, in part or late, when its answer is lost; it may be done when who asked has long given up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec

from protocol.bodies import TimelineEventRaw
from protocol.limits import N_MAX
from storage.backlog import ArchiveBacklog, ArchivingState, BacklogHorizon, BacklogPage, Cursor
from storage.local.archive import LocalArchive
from storage.rows import TimelineRow
from storage.unavailable import StorageUnavailableError
from tests.simulation.database import Database
from tests.simulation.loop import Process, VirtualLoop
from tests.simulation.tables import ERASED, Dialog, Row
from tests.simulation.weather import Weather

_T = TypeVar("_T")

_Work = Callable[[], Coroutine[Any, Any, None]]

_PAGE_ROWS = 3
_LATE_S = 12.0


class MemoryBacklog(ArchiveBacklog):
    """What the mover of one node reads and notes in the database in memory."""

    def __init__(self, database: Database, process: Process) -> None:
        self._database = database
        self._process = process
        self._crashes = -1

    async def take(self) -> ArchivingState:
        def look() -> ArchivingState:
            database = self._database
            database.check_history()
            if database.mover is None or not database.mover.alive:
                database.mover = self._process
            self._crashes = database.crashes
            database.archiving = True
            held = database.mover is self._process
            return ArchivingState(held, database.epoch, database.moved, 0, len(database.archive_erasures))

        return await self._database.read("backlog", look)

    async def read_horizon(self) -> BacklogHorizon:
        def look() -> BacklogHorizon:
            database = self._database
            horizon, next_xid = database.horizon, database.next_xid
            database.forget_id(database.take_id(), committed=True)
            return BacklogHorizon(horizon, next_xid, database.clock.wall_ms())

        return await self._ask(look)

    async def read_page(self, after: Cursor, horizon: int) -> BacklogPage:
        def look() -> BacklogPage:
            places = sorted(
                (Cursor(row.xid, dialog.dialog, row.seq), dialog, row)
                for dialog in self._database.dialogs.values()
                for row in dialog.rows
                if row.xid < horizon and Cursor(row.xid, dialog.dialog, row.seq) > after
            )[:_PAGE_ROWS]
            rows = [_archived(dialog, row) for _, dialog, row in places]
            return BacklogPage(rows, places[-1][0] if len(places) == _PAGE_ROWS else Cursor(horizon))

        return await self._ask(look)

    async def advance(self, first: int, moved: int, covered_ms: int) -> None:
        del covered_ms

        def note() -> None:
            if self._database.moved >= first:
                self._database.moved = max(moved, self._database.moved)

        await self._ask(note)

    async def list_erasures(self, limit: int) -> list[tuple[bytes, int]]:
        return await self._ask(lambda: sorted(self._database.archive_erasures)[:limit])

    async def list_left(self, dialog: bytes, seqs: Sequence[int]) -> list[int]:
        del dialog, seqs
        return await self._ask(list)  # nothing leaves the journal here

    async def list_sealed_left(self, keys: Sequence[tuple[bytes, int]]) -> list[tuple[bytes, int]]:
        del keys
        return []  # a call of its own would change the runs of all seeds

    async def keep_commitments(self, rows: Sequence[TimelineRow]) -> None:
        raise NotImplementedError("nothing is in the archive alone")

    async def forget_erasures(self, keys: Sequence[tuple[bytes, int]]) -> None:
        await self._ask(lambda: self._database.archive_erasures.difference_update(keys))

    async def release(self) -> None:
        if self._database.mover is self._process:
            self._database.mover = None
        self._crashes = -1

    async def _ask(self, look: Callable[[], _T]) -> _T:
        """A call on the connection that has the lock: it breaks with a crash."""

        def look_once() -> _T:
            self._check_connection()  # what is on its way when it breaks does not arrive
            return look()

        self._check_connection()
        return await self._database.read("backlog", look_once)

    def _check_connection(self) -> None:
        if self._crashes != self._database.crashes:
            raise StorageUnavailableError("the connection that holds the backlog has broken")


class SimulatedArchive(LocalArchive):
    """What all nodes share, and what goes wrong on the way to it; `stored` is what it has."""

    def __init__(self, loop: VirtualLoop, weather: Weather) -> None:
        super().__init__()
        self.stored = LocalArchive()
        self._loop = loop
        self._weather = weather
        self._process = Process("archive")

    async def write(self, rows: Sequence[TimelineRow], *, epoch: int = 0) -> None:
        await self._do([partial(self.stored.write, [row], epoch=epoch) for row in rows])

    async def erase(self, keys: Sequence[tuple[bytes, int]], *, epoch: int = 0) -> None:
        await self._do([partial(self.stored.erase, [key], epoch=epoch) for key in keys])

    async def read_newest_about(
        self, dialog: bytes, target: int, tag: int, *, limit: int, before: int = N_MAX
    ) -> list[TimelineRow]:
        await self._do([])
        return await self.stored.read_newest_about(dialog, target, tag, limit=limit, before=before)

    async def _do(self, work: Sequence[_Work]) -> None:
        """Do this; when it fails, nothing of it, or some of it, sooner or later."""
        dice, fails = self._weather.dice, 0.0 if self._weather.calm else self._weather.climate.fails
        await asyncio.sleep(self._weather.network_s())
        if dice.random() >= fails:
            for each in work:
                await each()
            return
        for each in work:
            if dice.random() < 0.5:
                delay_s = dice.choice((0.0, _LATE_S)) * dice.random()
                self._loop.create_task(_do_later(each, delay_s), context=self._process.context)
        raise StorageUnavailableError("the archive does not answer")


async def _do_later(work: _Work, delay_s: float) -> None:
    await asyncio.sleep(delay_s)
    await work()


def find_wrong(database: Database, archive: SimulatedArchive) -> Iterator[str]:
    """Rows that are moved, and that the archive lacks or has otherwise than the journal."""
    for dialog in database.dialogs.values():
        has = {seq: archive.stored._read(dialog.dialog, seq) for seq in archive.stored._rows.get(dialog.dialog, ())}
        for row in dialog.rows:
            found, wanted = has.get(row.seq), _archived(dialog, row)
            if row.xid >= database.moved or found == wanted:
                continue
            erased_in_lost_history = database.epoch > 1 and found is not None and found.tag == ERASED
            if not erased_in_lost_history:
                yield f"{row} of {dialog.dialog.hex()} is archived as {found}"


def _archived(dialog: Dialog, row: Row) -> TimelineRow:
    return TimelineRow(
        TimelineEventRaw(
            dialog.dialog, row.seq, row.author, row.device, row.n, row.at_ms, row.messages, msgspec.Raw(row.body)
        ),
        row.tag,
        row.target,
    )
