"""One lane: flushes one batch at a time and takes next what gathered meanwhile (group commit).

Invariants: entries are judged in the order in which they were submitted; `done` is called exactly once per entry, after
the commit; durable events go to `route` after the commit too, in the order of their numbers. A flush whose reply is
lost is called again until the store answers. After `retry_total_s` everything that waits in the lane is refused as
UNAVAILABLE at once, so that nothing later overtakes what was refused; the batch whose fate is unknown is still retried
before anything else, because it may be durable and must then be delivered.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import msgspec

from protocol.bodies import TimelineEventRaw
from server.clock import Clock, Sleep
from server.config.settings import PipelineSettings
from server.writing.durable import DurableEvents, Route
from storage.rows import ChangeEntry, ChangeResult, Entry, Verdict, VerdictCode
from storage.timelines import Journal
from storage.unavailable import IncarnationEndedError, StorageUnavailableError

_log = logging.getLogger(__name__)

Done = Callable[[Verdict], None]
"""Takes the verdict on an entry, once."""
Submission = tuple[Entry | ChangeEntry, Done]

_BUSY_FLUSHES_MAX = 3
_BATCH_BYTES_MAX = 1_048_576

UNAVAILABLE = Verdict(VerdictCode.UNAVAILABLE)
INTERNAL = Verdict(VerdictCode.INTERNAL)


class Lane:
    """One lane of the pipeline. `run` flushes until it is cancelled."""

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
        """Entries that wait."""
        return len(self._queue)

    @property
    def busy(self) -> bool:
        """Whether anything is queued or under way."""
        return self._working or bool(self._queue)

    def submit(self, entry: Entry | ChangeEntry, done: Done) -> None:
        """Queue an entry; its verdict comes at once (UNAVAILABLE) if the lane is full."""
        if len(self._queue) >= self._settings.queue_rows_max:
            done(UNAVAILABLE)
            return
        self._queue.append((entry, done))
        self._wake.set()

    async def wait_settled(self) -> None:
        """Return once the flush that is under way now, or comes next, has been answered and routed."""
        if self.busy:
            turned: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._turned.append(turned)
            await turned

    async def run(self) -> None:
        """Flush whenever something is queued."""
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
            except IncarnationEndedError:
                raise
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
        durable: dict[bytes, list[TimelineEventRaw]] = {}
        roster: dict[bytes, int] = {}
        busy: list[Submission] = []
        stale: dict[tuple[bytes, bytes], int] = {}
        for submission, entry, verdict in zip(batch, entries, verdicts, strict=True):
            if verdict.code is VerdictCode.BUSY:
                busy.append(submission)
                continue
            if verdict.code in (VerdictCode.OK, VerdictCode.DUPLICATE) and not verdict.erased:
                durable.setdefault(entry.dialog, []).append(_event(entry, verdict))
                roster[entry.dialog] = verdict.roster_seq
            if verdict.code is VerdictCode.STALE:
                stale.setdefault((entry.dialog, entry.device), entry.n)
            self._finish(submission, verdict)
        self._queue.extendleft(reversed(busy))
        if stale:
            self._refuse_behind(stale)
        self._busy_flushes = self._busy_flushes + 1 if busy else 0
        self._deliver([DurableEvents(dialog, tuple(events), roster[dialog]) for dialog, events in durable.items()])

    def _refuse_behind(self, stale: dict[tuple[bytes, bytes], int]) -> None:
        """Refuse what waits behind a stale number of its device: if it were stored, that number never could be."""
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
        if result.events:
            # Notify new members once: a client's retry must not make them catch up again.
            made_now = again or result.verdict.code is VerdictCode.OK
            roster_seq = result.verdict.roster_seq
            self._deliver([DurableEvents(entry.dialog, result.events, roster_seq, entry if made_now else None)])

    def _deliver(self, durable: Sequence[DurableEvents]) -> None:
        try:
            self._route(durable)
        except Exception:  # noqa: BLE001 - what is durable and answered must not be flushed and answered again
            _log.exception("durable events could not be delivered to everybody")

    def _refuse_all(self, batch: list[Submission]) -> list[Submission]:
        """Refuse all that waits; returns the batch, whose submitters have their answer."""
        waiting = [*batch, *self._queue]
        self._queue.clear()
        for submission in waiting:
            self._finish(submission, UNAVAILABLE)
        return [(entry, _ignore) for entry, _ in batch]

    def _finish(self, submission: Submission, verdict: Verdict) -> None:
        try:
            submission[1](verdict)
        except Exception:  # noqa: BLE001 - a submitter's fault must not touch the others of its batch
            _log.exception("the submitter of an entry failed on its verdict")


def _ignore(_verdict: Verdict) -> None:
    """The submitter was refused already."""


def _event(entry: Entry, verdict: Verdict) -> TimelineEventRaw:
    return TimelineEventRaw(
        entry.dialog,
        verdict.seq,
        entry.author,
        entry.device,
        entry.n,
        verdict.at_ms,
        verdict.messages,
        msgspec.Raw(entry.body),
    )
