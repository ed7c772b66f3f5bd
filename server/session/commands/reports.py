"""Reports: what a receiver shows of a sealed message is compared with what its author committed to, and kept sealed.

Nothing of the content is stored, logged or counted but sealed to the moderators' key: the server that checks a report
cannot read it afterwards.
"""

from __future__ import annotations

import msgspec
from nacl.public import PublicKey, SealedBox

from protocol.errors import ErrorCode
from protocol.franking import Franked, is_committed
from protocol.ids import to_text
from protocol.kinds import DAY_MS
from protocol.public_keys import read_curve25519
from protocol.report_commands import Report
from server.clock import Clock
from server.config.settings import Config
from server.refusals import RequestRefusedError
from server.session.session import Session
from storage.archive import Archive
from storage.rates import Rate, RateLimiter
from storage.reports import Committed, Evidence, Reports, SealedReport, find_committed


class ReportHandlers:
    """The handler of `report`. Without an archive all rows are in the journal."""

    def __init__(
        self, reports: Reports, archive: Archive | None, limiter: RateLimiter, config: Config, clock: Clock
    ) -> None:
        settings, rates = config.reports, config.limits
        self._reports = reports
        self._archive = archive
        self._limiter = limiter
        self._clock = clock
        self._box = SealedBox(PublicKey(read_curve25519(settings.moderators_key))) if settings.moderators_key else None
        self._kept_ms = settings.kept_days * DAY_MS
        self._by_person = Rate.per_day("reports of person", rates.reports_per_person_per_day)
        self._about_person = Rate.per_day("reports about person", rates.reports_about_person_per_day)

    async def report(self, session: Session, command: Report) -> None:
        """Keep a report, if it is true and its reporter may see what it is about."""
        if self._box is None:
            raise RequestRefusedError(ErrorCode.REPORTS_OFF)
        reporter, now_ms = session.principal, self._clock.wall_ms()
        await self._spend(self._by_person, reporter)
        committed = await self._find(reporter, command, now_ms)
        if committed is None or not _is_true(command, committed):
            raise RequestRefusedError(ErrorCode.REPORT_REFUSED)
        await self._spend(self._about_person, committed.author)
        sealed = self._box.encrypt(msgspec.json.encode(_make_evidence(command, committed, reporter, now_ms)))
        kept = SealedReport(now_ms, reporter, committed.author, command.dialog, command.seq, sealed)
        await self._reports.keep(kept, until_ms=now_ms + self._kept_ms)
        session.done(command.id)

    async def _spend(self, rate: Rate, principal: bytes) -> None:
        if wait_s := await self._limiter.take([(rate, principal)], cost=1):
            raise RequestRefusedError(ErrorCode.RATE_LIMITED, retry_after_s=round(wait_s, 3))

    async def _find(self, reporter: bytes, command: Report, now_ms: int) -> Committed | None:
        """What the event committed to, wherever its row is; None: nothing, or it was erased too long ago."""
        dialog, seq = command.dialog, command.seq
        event = await self._reports.find(reporter, dialog, seq, now_ms)
        if event is None:
            raise RequestRefusedError(ErrorCode.DIALOG_NOT_FOUND)
        if not event.visible:
            raise RequestRefusedError(ErrorCode.EVENT_NOT_FOUND)
        if not event.archived or self._archive is None:
            return event.committed
        rows = await self._archive.read_rows(dialog, [seq])
        committed = find_committed(rows[0]) if rows else None
        if committed is None:  # it may have been erased since, or put back: then the database has what it committed to
            event = await self._reports.find(reporter, dialog, seq, now_ms)
            return None if event is None else event.committed
        return committed


def _is_true(command: Report, of: Committed) -> bool:
    franked = Franked(command.dialog, of.author, of.device, of.n, of.tag, of.target, command.content)
    return is_committed(of.commitment, command.key, franked)


def _make_evidence(command: Report, of: Committed, reporter: bytes, now_ms: int) -> Evidence:
    return Evidence(
        reason=command.reason,
        reporter=to_text(reporter),
        reported_at_ms=now_ms,
        dialog=to_text(command.dialog),
        seq=command.seq,
        author=to_text(of.author),
        device=to_text(of.device),
        n=of.n,
        tag=of.tag,
        target=of.target,
        content=command.content,
        key=command.key,
        commitment=of.commitment,
    )
