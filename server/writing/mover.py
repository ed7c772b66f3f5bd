"""The mover: copies the journal to the archive, behind the horizon, and never delays a write.

Each node has one, and one at a time works (`storage.backlog`). It reads rows by their stamps, page by page, never by
number or time: what commits late lies beyond the horizon. While the archive stores one page it reads the next, so it
holds two. `moved` is advanced after the archive has the rows; after any failure it begins there, and repeats are
harmless. So is another mover: a row is only ever written as the journal has it, and an erasure wins in the archive.

An erasure blanks a row and keeps its stamp, so it is sent by itself, from a list; what hangs on the row in the archive,
and may have left the journal, is erased with it. What rows committed to that only the archive has, is kept in the
database first. With the archive away, rows wait in the journal and erasures in their list.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Sequence
from operator import itemgetter

from protocol.bodies import Erased, tag_of
from protocol.limits import N_MAX
from server.clock import Clock, Sleep
from storage.archive import ARCHIVE_ROWS_MAX, HANGING, Archive
from storage.backlog import ArchiveBacklog, ArchivingState, BacklogHorizon, BacklogPage, Cursor
from storage.unavailable import StorageUnavailableError

_log = logging.getLogger(__name__)

INTERVAL_S = 1.0
"""Pause after all that could be moved has been moved, and after the first failure."""
BACKOFF_MAX_S = 30.0
_ERASURES_AT_ONCE = 100
_ERASURES_A_ROUND = 2_000
"""Then rows have their turn: a retention may erase a million at once."""
_LOOKS_AT_ONCE = 10


class Mover:
    """Moves rows and erasures, until cancelled. `rows` and `erased` count what the archive has taken from this node.

    `holds`: it is the one that moves, as far as it knows.
    """

    def __init__(
        self, backlog: ArchiveBacklog, archive: Archive, clock: Clock, *, sleep: Sleep = asyncio.sleep
    ) -> None:
        self.rows = 0
        self.erased = 0
        self.erasures_waiting = 0
        self.holds = False
        self._backlog = backlog
        self._archive = archive
        self._clock = clock
        self._sleep = sleep
        self._covered_ms: int | None = None
        self._looked: BacklogHorizon | None = None
        self._failures = 0

    @property
    def lag_s(self) -> float:
        """All that was written longer ago than this is in the archive, as far as this node knows; 0: not known."""
        return 0.0 if self._covered_ms is None else max(0, self._clock.wall_ms() - self._covered_ms) / 1000

    async def run(self) -> None:
        """Round by round, every `INTERVAL_S`, and more rarely while one of the stores is away."""
        try:
            while True:
                await self._round()
                doublings = min(max(0, self._failures - 1), 5)
                await self._sleep(min(BACKOFF_MAX_S, INTERVAL_S * 2**doublings))
        finally:
            await self._backlog.release()

    async def _round(self) -> None:
        try:
            await self.move()
        except Exception as error:  # noqa: BLE001 - whatever it is, the node goes on
            expected = isinstance(error, StorageUnavailableError)
            if not self._failures or not expected:
                _log.warning("could not archive, will try again: %s", error, exc_info=not expected)
            self._failures += 1
            self.holds = False
            self._looked = None  # the stamps may be those of another history next time
            await self._backlog.release()
        else:
            if self._failures:
                _log.warning("archiving goes on")
            self._failures = 0

    async def move(self) -> None:
        """Move all that lies behind the horizon of now, unless another node moves. Raises StorageUnavailableError."""
        state = await self._backlog.take()
        self._covered_ms, self.erasures_waiting = state.covered_ms, state.erasures
        self.holds = state.held
        if state.held:
            await self._erase_some(state.epoch)  # does not wait for hours of rows, and neither does what follows
            await self._move_rows(state, await self._backlog.read_horizon())
            for _ in range(_ERASURES_A_ROUND // _ERASURES_AT_ONCE):
                if await self._erase_some(state.epoch) < _ERASURES_AT_ONCE:
                    break

    async def _move_rows(self, state: ArchivingState, horizon: BacklogHorizon) -> None:
        moved, covered_ms = state.moved, state.covered_ms
        page: BacklogPage | None = await self._backlog.read_page(Cursor(moved), horizon.horizon)
        while page is not None:
            following = await self._store(page, horizon.horizon, state.epoch)
            if following is None:
                covered_ms = self._cover(horizon, covered_ms)
            await self._backlog.advance(moved, page.reached.xid, covered_ms)
            if following is not None:
                await self._erase_some(state.epoch)
            moved, page = page.reached.xid, following
        self._covered_ms = covered_ms

    async def _store(self, page: BacklogPage, horizon: int, epoch: int) -> BacklogPage | None:
        """Write a page, and read the one after it meanwhile; None: this is the last."""
        following: BacklogPage | BaseException | None = None
        if page.reached.xid >= horizon:
            await self._archive.write(page.rows, epoch=epoch)
        else:
            # Both have ended before an error of one is raised: nothing of this round is left running.
            written, following = await asyncio.gather(
                self._archive.write(page.rows, epoch=epoch),
                self._backlog.read_page(page.reached, horizon),
                return_exceptions=True,
            )
            for outcome in (written, following):
                if isinstance(outcome, BaseException):
                    raise outcome
        assert not isinstance(following, BaseException)
        self.rows += len(page.rows)
        return following

    def _cover(self, horizon: BacklogHorizon, covered_ms: int) -> int:
        """Until when all is moved once this horizon is reached: it has passed what had begun when we looked before."""
        looked = self._looked
        if looked is None or horizon.horizon >= looked.next_xid:
            self._looked = horizon
        return looked.now_ms if looked is not None and self._looked is horizon else covered_ms

    async def _erase_some(self, epoch: int) -> int:
        keys = await self._backlog.list_erasures(_ERASURES_AT_ONCE)
        if keys:
            await self._keep_commitments(keys)
            await self._archive.erase(keys, epoch=epoch)
            for at in range(0, len(keys), _LOOKS_AT_ONCE):
                await asyncio.gather(*(self._erase_hanging(*key, epoch) for key in keys[at : at + _LOOKS_AT_ONCE]))
            await self._backlog.forget_erasures(keys)
            self.erased += len(keys)
        return len(keys)

    async def _keep_commitments(self, keys: Sequence[tuple[bytes, int]]) -> None:
        """Keep what rows committed to that only the archive has; of others it was kept when they were blanked."""
        left = await self._backlog.list_sealed_left(keys)
        for dialog, group in itertools.groupby(left, key=itemgetter(0)):
            seqs = [seq for _, seq in group]
            while seqs and (rows := await self._archive.read_rows(dialog, seqs)):
                await self._backlog.keep_commitments(rows)
                seqs = [seq for seq in seqs if seq > rows[-1].event.seq]  # a page may end early

    async def _erase_hanging(self, dialog: bytes, seq: int, epoch: int) -> None:
        """Erase the edits of a row and the reactions to it, of those that are only in the archive, page by page.

        Those of the journal are noted when they are blanked. A number that the journal has not given out yet, or has
        for another row, is of a history that was lost: an erasure would hide the row that is moved there later.
        """
        for tag in HANGING:
            before = N_MAX
            while rows := await self._archive.read_newest_about(
                dialog, seq, tag, limit=ARCHIVE_ROWS_MAX, before=before
            ):
                before = rows[-1].event.seq
                live = [row.event.seq for row in rows if row.tag != tag_of(Erased)]
                if live:
                    left = await self._backlog.list_left(dialog, live)
                    if left:
                        await self._backlog.keep_commitments([row for row in rows if row.event.seq in left])
                    await self._archive.erase([(dialog, each) for each in left], epoch=epoch)
