"""One lane: flushes one batch at a time and takes next what gathered meanwhile (group commit).

Invariants:

* Entries are judged in the order in which they were submitted; each submitter gets one verdict, after the commit.
* A flush whose reply is lost is called again, before anything else of the lane, until the store answers: it may be
  durable and must then be delivered. An unknown fate is temporary: whatever error comes after it, its submitters are
  refused as UNAVAILABLE at most. Only what the store refused at the first call is INTERNAL.
* After `retry_total_s` everything that waits in the lane is refused as UNAVAILABLE at once, so that nothing later
  overtakes what was refused.
* A batch that gets no answer `_TRIES` times, although the database can be reached, is taken apart. An entry that gets
  none alone is set aside with its dialog (`set_aside.py`), and the lane goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence

from server.busyness import Busyness
from server.clock import Clock, Sleep
from server.config.settings import PipelineSettings
from server.writing.flusher import Flusher
from server.writing.set_aside import SetAside
from server.writing.submission import INTERNAL, UNAVAILABLE, Backlog, OnVerdict, Submission, size_of
from storage.rows import ChangeEntry, Entry, Verdict, VerdictCode
from storage.unavailable import IncarnationEndedError, LockTimeoutError, NothingWrittenError, WriteRefusedError

_log = logging.getLogger(__name__)

_BUSY_FLUSHES_MAX = 3
_BATCH_BYTES_MAX = 1_048_576
_TRIES = 3
_REST_S = 0.001
_ENOUGH_ROWS = 16
"""A flush costs as much as some 16 rows of it. While several write and the node is busy, one of fewer rows waits, up to
`_REST_S` after the last one ended, for what comes meanwhile."""


class Lane:
    """One lane of the pipeline. `run` flushes until it is cancelled."""

    def __init__(
        self,
        flusher: Flusher,
        aside: SetAside,
        backlog: Backlog,
        settings: PipelineSettings,
        clock: Clock,
        *,
        busyness: Busyness,
        sleep: Sleep,
    ) -> None:
        self._flusher = flusher
        self._aside = aside
        self._backlog = backlog
        self._settings = settings
        self._clock = clock
        self._busyness = busyness
        self._sleep = sleep
        self._queue: deque[Submission] = deque()
        self._wake = asyncio.Event()
        self._answered_at: float | None = None
        self._turned: list[asyncio.Future[None]] = []
        self._busy_rows = 0
        self._busy_flushes = 0
        self._rest_until = 0.0

    @property
    def busy(self) -> bool:
        """Whether anything is queued or under way."""
        return self._answered_at is not None or bool(self._queue)

    @property
    def stalled_s(self) -> float:
        """How long the lane has had work without an answer of the store; 0 when it has none."""
        return 0.0 if self._answered_at is None else self._clock.monotonic() - self._answered_at

    def submit(self, entry: Entry | ChangeEntry, done: OnVerdict) -> None:
        """Queue an entry; its verdict comes at once (UNAVAILABLE) if there is no room, or its dialog is set aside."""
        submission = Submission(entry, done, size_of(entry))
        if entry.dialog in self._aside.held or not self._backlog.try_add(submission):
            done(UNAVAILABLE)
            return
        self._queue.append(submission)
        self._wake.set()

    async def wait_settled(self) -> None:
        """Return once the flush that is under way now, or comes next, has been answered and routed, or set aside.

        A busy head is no answer for what an earlier call may have stored: it is waited for.
        """
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
                self._answered_at = self._clock.monotonic()
                waiting, self._turned = self._turned, []
                if self._rest_until:
                    await self._rest()
                wait = self._busy_flushes >= _BUSY_FLUSHES_MAX
                batch = self._take()
                self._backlog.remove(batch)
                await self._settle(batch, wait=wait)
                if (self._queue or len(batch) > 1) and self._busyness.look():
                    self._rest_until = self._clock.monotonic() + _REST_S
                if waiting and any(submission.unknown for submission in self._queue):
                    self._turned += waiting
                    continue
                for turned in waiting:
                    turned.set_result(None)
            self._answered_at = None
            for turned in self._turned:
                turned.set_result(None)
            self._turned.clear()

    async def _rest(self) -> None:
        """Let more gather, if little waits and others write, too."""
        rest_s, self._rest_until = self._rest_until - self._clock.monotonic(), 0.0
        if rest_s > 0 and len(self._queue) < _ENOUGH_ROWS:
            await self._sleep(rest_s)

    def _take(self) -> list[Submission]:
        """The longest prefix of the queue that one flush may judge: one change, or a run of content.

        In it the numbers of a device in a dialog rise, and were made under one `keys_seq`: so either the first of
        them is stale or none is, and nothing is accepted that overtakes it. Heads that stay busy are waited for
        without the others.
        """
        rows_max = self._busy_rows if self._busy_flushes >= _BUSY_FLUSHES_MAX else self._settings.batch_rows_max
        batch = [self._queue.popleft()]
        first = batch[0].entry
        if isinstance(first, ChangeEntry):
            return batch
        size = len(first.body)
        last = {(first.dialog, first.device): first}
        while self._queue and len(batch) < rows_max:
            entry = self._queue[0].entry
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

    async def _settle(self, batch: list[Submission], *, wait: bool) -> None:
        """Flush a batch until each of its entries is answered, queued again (busy), or set aside."""
        give_up_at = self._clock.monotonic() + self._settings.retry_total_s
        backoff_s = self._settings.retry_first_s
        tries = 0
        while True:
            try:
                verdicts = await self._flusher.flush(batch, wait=wait)
            except IncarnationEndedError:
                self._refuse_all(batch)
                raise
            except WriteRefusedError as error:
                _log.error("the store refused a flush of %d rows: %s", len(batch), error)
                if not any(submission.unknown for submission in batch):
                    await self._refuse_or_split(batch)
                    return
                tries += 1
            except Exception as error:  # noqa: BLE001 - whatever it is, the batch may be durable
                _log.warning("a flush of %d rows is tried again: %r", len(batch), error)
                tries += not isinstance(error, NothingWrittenError) or isinstance(error, LockTimeoutError)
            else:
                self._answered_at = self._clock.monotonic()
                self._go_on_from(batch, verdicts)
                return
            if tries >= _TRIES and await self._split_or_set_aside(batch):
                return
            if self._clock.monotonic() >= give_up_at:
                self._refuse_all(batch)
            await self._sleep(backoff_s)
            backoff_s = min(backoff_s * 2, self._settings.retry_max_s)

    def _go_on_from(self, batch: Sequence[Submission], verdicts: Sequence[Verdict]) -> None:
        """Queue again what was busy, in front of all; refuse what must not overtake a number that comes again."""
        busy: list[Submission] = []
        refused: dict[tuple[bytes, bytes], int] = {}
        for submission, verdict in zip(batch, verdicts, strict=True):
            if verdict.code is VerdictCode.BUSY:
                busy.append(submission)
                self._backlog.add(submission)
            elif verdict.code in (VerdictCode.STALE, VerdictCode.TARGET_ARCHIVED):
                refused.setdefault((submission.entry.dialog, submission.entry.device), submission.entry.n)
        self._queue.extendleft(reversed(busy))
        self._busy_rows = len(busy)
        self._busy_flushes = self._busy_flushes + 1 if busy else 0
        if refused:
            # If what waits behind such a number of its device were stored, that number never could be.
            self._refuse_queued(lambda it: it.n > refused.get((it.dialog, it.device), it.n))

    async def _refuse_or_split(self, batch: list[Submission]) -> None:
        """The store refuses one of these: find it."""
        if len(batch) == 1:
            batch[0].finish(INTERNAL)
        else:
            await self._settle_each(batch)

    async def _split_or_set_aside(self, batch: list[Submission]) -> bool:
        """One of these gets no answer: find it, and set it aside. False when there is no room for it there."""
        if len(batch) > 1:
            await self._settle_each(batch)
            return True
        dialog = batch[0].entry.dialog
        if not self._aside.take(batch[0]):
            return False
        for submission in self._refuse_queued(lambda it: it.dialog == dialog):
            self._aside.take(submission)
        return True

    async def _settle_each(self, batch: list[Submission]) -> None:
        for submission in batch:
            if submission.entry.dialog in self._aside.held:
                self._aside.take(submission)
            else:
                await self._settle([submission], wait=True)

    def _refuse_all(self, batch: Sequence[Submission]) -> None:
        """Refuse all that waits; the batch itself is still tried."""
        for submission in batch:
            submission.finish(UNAVAILABLE)
        kept = self._refuse_queued(lambda _: True)
        self._queue.extend(kept)
        for submission in kept:
            self._backlog.add(submission)

    def _refuse_queued(self, chosen: Callable[[Entry | ChangeEntry], bool]) -> list[Submission]:
        """Take the chosen out of the queue, and refuse them; return those that may be durable nevertheless."""
        queued, self._queue = self._queue, deque()
        may_be_durable = []
        for submission in queued:
            if not chosen(submission.entry):
                self._queue.append(submission)
                continue
            self._backlog.remove([submission])
            submission.finish(UNAVAILABLE)
            if submission.unknown:
                may_be_durable.append(submission)
        return may_be_durable
