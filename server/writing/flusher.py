"""One call of the store for a batch; then its submitters are answered and what is durable is handed to delivery.

Invariants: a verdict is given, and durable events go to `route`, after the commit only, in the order of the numbers. A
repetition is routed only when it is our own: when an earlier call with that entry, whose fate was unknown, may have
stored it. A client that repeats an old number gets its ack, and nobody gets the event again. Nothing is repeated before
the store knows that the earlier call was given up: if that arrives after its repetition was refused, it writes nothing.
"""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Sequence

import msgspec

from protocol.bodies import TimelineEventRaw
from server.clock import Clock
from server.histogram import Histogram
from server.writing.durable import DurableEvents, Route
from server.writing.put_back import PutBack
from server.writing.submission import Submission
from storage.rows import ChangeEntry, Entry, Verdict, VerdictCode
from storage.timelines import Journal
from storage.unavailable import NothingWrittenError, WriteRefusedError

_log = logging.getLogger(__name__)

_Answer = tuple[list[Verdict], list[DurableEvents]]


class Flusher:
    """Calls the journal for the lanes of one node."""

    def __init__(
        self, journal: Journal, route: Route, clock: Clock, *, incarnation: int, put_back: PutBack | None = None
    ) -> None:
        self._journal = journal
        self._route = route
        self._clock = clock
        self._incarnation = incarnation
        self._put_back = put_back
        self._numbers = itertools.count(1)
        self._given_up = self._overtaken = 0
        """The last call whose fate is unknown; and up to which of them the store knows that they were given up."""
        self.flushes = 0
        """Calls that were answered."""
        self.failed = 0
        """Calls that failed, or got no answer in time."""
        self.rows = 0
        """Entries that got a verdict."""
        self.seconds = Histogram()
        """How long the answered calls took."""
        self.verdicts: Counter[VerdictCode] = Counter()
        """Verdicts other than OK."""

    async def flush(self, batch: Sequence[Submission], *, wait: bool) -> list[Verdict]:
        """Flush one change, or a run of content; return the verdicts.

        Those with the verdict BUSY have no answer yet; all others do. Raises what the store raises, after marking the
        batch when its fate is unknown.
        """
        began = self._clock.monotonic()
        flush_no = next(self._numbers)
        try:
            if self._given_up > self._overtaken:
                await self._overtake(batch)
            verdicts, durable = await self._call(batch, flush_no, wait=wait)
        except (NothingWrittenError, WriteRefusedError):
            self.failed += 1
            raise
        except Exception:
            self.failed += 1
            self._given_up = max(self._given_up, flush_no)
            for submission in batch:
                submission.unknown = True
            raise
        if self._put_back is not None:
            verdicts = [
                self._look_further(each.entry, verdict, began, self._put_back)
                for each, verdict in zip(batch, verdicts, strict=True)
            ]
        self.flushes += 1
        self.rows += len(batch)
        self.seconds.add(self._clock.monotonic() - began)
        for submission, verdict in zip(batch, verdicts, strict=True):
            if verdict.code is not VerdictCode.OK:
                self.verdicts[verdict.code] += 1
            if verdict.code is VerdictCode.TARGET_ARCHIVED:
                self._ask_for_target(submission.entry)
            if verdict.code is not VerdictCode.BUSY:
                submission.finish(verdict)
        self._deliver(durable)
        return verdicts

    async def _overtake(self, batch: Sequence[Submission]) -> None:
        given_up = self._given_up
        if any(submission.unknown for submission in batch):
            await self._journal.overtake(given_up, incarnation=self._incarnation)
            self._overtaken = max(self._overtaken, given_up)

    async def _call(self, batch: Sequence[Submission], flush_no: int, *, wait: bool) -> _Answer:
        first = batch[0]
        if isinstance(first.entry, ChangeEntry):
            return await self._change(first, first.entry, flush_no)
        entries = [submission.entry for submission in batch if isinstance(submission.entry, Entry)]
        verdicts = await self._journal.flush(entries, incarnation=self._incarnation, flush_no=flush_no, wait=wait)
        events: dict[bytes, list[TimelineEventRaw]] = {}
        heads: dict[bytes, Verdict] = {}
        repeated = may_bring_keys = False
        for submission, entry, verdict in zip(batch, entries, verdicts, strict=True):
            if _is_new(submission, verdict) and not verdict.erased:
                events.setdefault(entry.dialog, []).append(_event(entry, verdict))
                heads[entry.dialog] = verdict
                repeated = repeated or submission.unknown
                may_bring_keys = may_bring_keys or entry.share is not None
        return verdicts, [
            DurableEvents(
                dialog, tuple(each), head.roster_seq, None, 0 if repeated else head.member_count, may_bring_keys
            )
            for dialog, each in events.items()
            for head in (heads[dialog],)
        ]

    async def _change(self, submission: Submission, entry: ChangeEntry, flush_no: int) -> _Answer:
        result = await self._journal.change(entry, incarnation=self._incarnation, flush_no=flush_no)
        verdict = result.verdict
        if not result.events or not _is_new(submission, verdict):
            return [verdict], []
        count = verdict.member_count if verdict.code is VerdictCode.OK else 0
        return [verdict], [DurableEvents(entry.dialog, result.events, verdict.roster_seq, entry, count)]

    @staticmethod
    def _look_further(entry: Entry | ChangeEntry, verdict: Verdict, began: float, put_back: PutBack) -> Verdict:
        """The verdict; TARGET_ARCHIVED until it is known whether a row with a passed number has left the journal."""
        if verdict.code is not VerdictCode.NUMBER_PASSED or isinstance(entry, ChangeEntry):
            return verdict
        if put_back.was_back(entry.dialog, entry.device, entry.n, at=began):
            return verdict
        return Verdict(VerdictCode.TARGET_ARCHIVED)

    def _ask_for_target(self, entry: Entry | ChangeEntry) -> None:
        target = entry.target if isinstance(entry, Entry) else getattr(entry.body, "target", None)
        if self._put_back is not None and target is not None:
            self._put_back.want(entry.dialog, target)

    def _deliver(self, durable: Sequence[DurableEvents]) -> None:
        try:
            self._route(durable)
        except Exception:  # noqa: BLE001 - what is durable and answered must not be flushed and answered again
            _log.exception("durable events could not be delivered to everybody")


def _is_new(submission: Submission, verdict: Verdict) -> bool:
    """Whether this call, or a call of ours before it, made the entry durable."""
    return verdict.code is VerdictCode.OK or (verdict.code is VerdictCode.DUPLICATE and submission.unknown)


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
