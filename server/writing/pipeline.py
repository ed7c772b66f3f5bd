"""The write pipeline: lanes that flush one batch at a time and take next whatever gathered meanwhile.

Invariants: a dialog is always in the same lane; within a lane entries are judged in the order in which
they were submitted; `done` is called exactly once per entry, after the commit; what was appended is handed to
`route` after the commit too, in the order of its numbers. A lost reply is asked again until the store
answers. After `retry_total_s` everything that waits in the lane is refused as UNAVAILABLE in one go, so
that nothing later overtakes what was refused; but the batch whose fate is unknown is still asked for before
anything else, because it may be durable, and then nobody would ever be told of it.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence

import msgspec

from server.clock import Clock
from server.config.settings import PipelineSettings
from storage.postgres.pool import StorageUnavailableError
from storage.rows import ChangeEntry, ChangeResult, Entry, JournalRow, Verdict, VerdictCode
from storage.timelines import Journal

_log = logging.getLogger(__name__)

Done = Callable[[Verdict], None]
Submission = tuple[Entry | ChangeEntry, Done]

_BUSY_FLUSHES_MAX = 3
_BATCH_BYTES_MAX = 1_048_576

UNAVAILABLE = Verdict(VerdictCode.UNAVAILABLE)
INTERNAL = Verdict(VerdictCode.INTERNAL)


class Appended(msgspec.Struct, frozen=True):
    """Events of one dialog that are durable now, to be told to its members."""

    dialog: bytes
    rows: tuple[JournalRow, ...]
    roster_seq: int
    change: ChangeEntry | None = None
    """The change that was made, unless it was made, and told, before."""


Route = Callable[[Sequence[Appended]], None]
Sleep = Callable[[float], Awaitable[None]]


class Pipeline:
    """See the module. `submit` is called on the loop; `run` holds the lanes until it is cancelled."""

    def __init__(
        self,
        journal: Journal,
        route: Route,
        settings: PipelineSettings,
        clock: Clock,
        *,
        incarnation: int,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        flush_numbers = itertools.count(1)
        self._lanes = [
            _Lane(
                journal,
                route,
                settings,
                clock,
                incarnation=incarnation,
                flush_numbers=flush_numbers,
                sleep=sleep,
            )
            for _ in range(settings.lanes)
        ]

    def submit(self, entry: Entry | ChangeEntry, done: Done) -> None:
        """Queue an entry; `done` gets its verdict, at once (UNAVAILABLE) if the lane is full."""
        self._lanes[entry.dialog[-1] % len(self._lanes)].submit(entry, done)

    async def append(self, entry: Entry | ChangeEntry) -> Verdict:
        """Queue an entry and wait for its verdict."""
        future: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()

        def done(verdict: Verdict) -> None:
            if not future.done():
                future.set_result(verdict)

        self.submit(entry, done)
        return await future

    async def run(self) -> None:
        """Flush, for ever."""
        async with asyncio.TaskGroup() as group:
            for lane in self._lanes:
                group.create_task(lane.run())

    async def settled(self) -> None:
        """Return once every flush that is under way now has been answered and routed."""
        await asyncio.gather(*(lane.settled() for lane in self._lanes))

    async def drained(self) -> None:
        """Return once nothing is queued or under way."""
        while any(lane.busy for lane in self._lanes):
            await self.settled()

    @property
    def queued(self) -> int:
        """Entries that wait, over all lanes."""
        return sum(lane.queued for lane in self._lanes)

    @property
    def flushes(self) -> int:
        """Flushes that were answered since the start."""
        return sum(lane.flushes for lane in self._lanes)

    @property
    def rows(self) -> int:
        """Entries that got a verdict of the store since the start."""
        return sum(lane.rows for lane in self._lanes)


class _Lane:
    def __init__(
        self,
        journal: Journal,
        route: Route,
        settings: PipelineSettings,
        clock: Clock,
        *,
        incarnation: int,
        flush_numbers: Iterator[int],
        sleep: Sleep,
    ) -> None:
        self._journal = journal
        self._route = route
        self._settings = settings
        self._clock = clock
        self._incarnation = incarnation
        self._flush_numbers = flush_numbers
        self._sleep = sleep
        self._queue: deque[Submission] = deque()
        self._wake = asyncio.Event()
        self.flushes = 0
        self.rows = 0
        self._working = False
        self._turned: list[asyncio.Future[None]] = []
        self._busy_flushes = 0

    @property
    def queued(self) -> int:
        return len(self._queue)

    @property
    def busy(self) -> bool:
        return self._working or bool(self._queue)

    def submit(self, entry: Entry | ChangeEntry, done: Done) -> None:
        if len(self._queue) >= self._settings.queue_rows_max:
            done(UNAVAILABLE)
            return
        self._queue.append((entry, done))
        self._wake.set()

    async def settled(self) -> None:
        if self.busy:
            turned: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._turned.append(turned)
            await turned

    async def run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                self._working = True
                waiting, self._turned = self._turned, []
                batch = self._take()
                await self._flush(batch)
                self._working = False
                for turned in waiting:
                    turned.set_result(None)
            for turned in self._turned:
                turned.set_result(None)
            self._turned.clear()

    def _take(self) -> list[Submission]:
        """The longest prefix of the queue that one flush may judge: one change, or a run of content.

        In it the numbers of a device in a dialog rise, and were made under one `keys_seq`: so either the first of
        them is stale or none is, and nothing is accepted that overtakes it.
        """
        first = self._queue.popleft()
        batch = [first]
        if isinstance(first[0], ChangeEntry):
            return batch
        size = len(first[0].body)
        last = {(first[0].dialog, first[0].device): first[0]}
        while self._queue and len(batch) < self._settings.batch_rows_max:
            entry = self._queue[0][0]
            if isinstance(entry, ChangeEntry):
                break
            size += len(entry.body)
            key = (entry.dialog, entry.device)
            before = last.get(key)
            if size > _BATCH_BYTES_MAX or (before and (entry.n <= before.n or entry.keys_seq != before.keys_seq)):
                break
            last[key] = entry
            batch.append(self._queue.popleft())
        return batch

    async def _flush(self, batch: list[Submission]) -> None:
        give_up_at = self._clock.monotonic() + self._settings.retry_total_s
        backoff_s = self._settings.retry_first_s
        again = False
        while True:
            try:
                return await self._flush_once(batch, again=again)
            except StorageUnavailableError as error:
                again = True
                _log.warning("a flush of %d rows is tried again: %s", len(batch), error)
                if self._clock.monotonic() >= give_up_at:
                    batch = self._refuse_all(batch)
            except Exception:  # noqa: BLE001 - a row that the store cannot digest must not stop its lane
                _log.exception("a flush of %d rows failed", len(batch))
                if len(batch) == 1:
                    self._finish(batch[0], INTERNAL)
                    return None
                for one in batch:
                    await self._flush([one])
                return None
            await self._sleep(backoff_s)
            backoff_s = min(backoff_s * 2, self._settings.retry_max_s)

    async def _flush_once(self, batch: list[Submission], *, again: bool) -> None:
        flush_no = next(self._flush_numbers)
        first = batch[0][0]
        if isinstance(first, ChangeEntry):
            result = await self._journal.change(first, incarnation=self._incarnation, flush_no=flush_no)
            self._count(1)
            self._finish_change(batch[0], first, result, again=again)
            return
        entries = [entry for entry, _ in batch if isinstance(entry, Entry)]
        verdicts = await self._journal.flush(
            entries,
            incarnation=self._incarnation,
            flush_no=flush_no,
            wait=self._busy_flushes >= _BUSY_FLUSHES_MAX,
        )
        self._count(len(entries))
        self._finish_content(batch, entries, verdicts)

    def _count(self, rows: int) -> None:
        self.flushes += 1
        self.rows += rows

    def _finish_content(self, batch: list[Submission], entries: list[Entry], verdicts: list[Verdict]) -> None:
        appended: dict[bytes, list[JournalRow]] = {}
        roster: dict[bytes, int] = {}
        busy: list[Submission] = []
        stale: dict[tuple[bytes, bytes], int] = {}
        for submission, entry, verdict in zip(batch, entries, verdicts, strict=True):
            if verdict.code is VerdictCode.BUSY:
                busy.append(submission)
                continue
            if verdict.code in (VerdictCode.OK, VerdictCode.DUPLICATE) and not verdict.erased:
                appended.setdefault(entry.dialog, []).append(_row(entry, verdict))
                roster[entry.dialog] = verdict.roster_seq
            if verdict.code is VerdictCode.STALE:
                stale.setdefault((entry.dialog, entry.device), entry.n)
            self._finish(submission, verdict)
        self._queue.extendleft(reversed(busy))
        if stale:
            self._refuse_behind(stale)
        self._busy_flushes = self._busy_flushes + 1 if busy else 0
        self._tell([Appended(dialog, tuple(rows), roster[dialog]) for dialog, rows in appended.items()])

    def _refuse_behind(self, stale: dict[tuple[bytes, bytes], int]) -> None:
        """Refuse what waits behind a stale number of its device: accepted, it would settle that number for ever."""
        kept: deque[Submission] = deque()
        behind: list[Submission] = []
        for submission in self._queue:
            entry = submission[0]
            follows = entry.n > stale.get((entry.dialog, entry.device), entry.n)
            (behind if follows else kept).append(submission)
        self._queue = kept
        for submission in behind:
            self._finish(submission, UNAVAILABLE)

    def _finish_change(self, submission: Submission, entry: ChangeEntry, result: ChangeResult, *, again: bool) -> None:
        self._finish(submission, result.verdict)
        if result.rows:
            # Whoever came with it is told once: a client that repeats it must not have them read it all again.
            made_now = again or result.verdict.code is VerdictCode.OK
            roster_seq = result.verdict.roster_seq
            self._tell([Appended(entry.dialog, result.rows, roster_seq, entry if made_now else None)])

    def _tell(self, appended: list[Appended]) -> None:
        try:
            self._route(appended)
        except Exception:  # noqa: BLE001 - what is durable and answered must not be flushed and answered again
            _log.exception("what was appended could not be told to everybody")

    def _refuse_all(self, batch: list[Submission]) -> list[Submission]:
        """Refuse all that waits; returns the batch with nobody who waits for it any more."""
        waiting = [*batch, *self._queue]
        self._queue.clear()
        for submission in waiting:
            self._finish(submission, UNAVAILABLE)
        return [(entry, _nobody) for entry, _ in batch]

    def _finish(self, submission: Submission, verdict: Verdict) -> None:
        try:
            submission[1](verdict)
        except Exception:  # noqa: BLE001 - a submitter's fault must not touch the others of its batch
            _log.exception("whoever submitted an entry failed on its verdict")


def _nobody(_verdict: Verdict) -> None:
    """Whoever submitted it was refused already."""


def _row(entry: Entry, verdict: Verdict) -> JournalRow:
    return JournalRow(
        entry.dialog,
        verdict.seq,
        entry.author,
        entry.device,
        entry.n,
        verdict.at_ms,
        verdict.messages,
        entry.body,
    )
