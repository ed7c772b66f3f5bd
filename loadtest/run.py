"""One run: workers connect the people of a scenario, load the server, and report; the outcome is a `RunResult`.

The measured part is what the load does after its warm-up. Of idle people it is that nine in ten of them connect: the
first tenth has the server allocate what it keeps anyway.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import importlib.metadata
import platform
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path

import msgspec
import psutil

from loadtest.latencies import Latencies
from loadtest.loads import Share, Times, wait_until
from loadtest.run_result import CHECK_COUNTS, Checks, Cpu, Machine, Percentiles, RunResult
from loadtest.sampling import Sampler, Watcher
from loadtest.scenario import ChannelLoad, IdleLoad, Scenario
from loadtest.shared_dialog import gather_all, reach_all
from loadtest.target import Target, Usage
from loadtest.thresholds import with_thresholds
from loadtest.worker_handle import WorkerHandle
from loadtest.worker_messages import AnyOrder, Begin, ConnectPeople, Perform, Prepare, WorkerReport

_FIRST_PART = 10
_LEAD_S = 0.3
"""From the order to perform until the load begins: time for the order to arrive everywhere."""
_WORKER_SHARE_MAX = 0.9
_LATE_MS_MAX = 5.0
_COUNTED_LATE_PART_MAX = 0.02
"""Of the measured part: by so much the counts may be wrong."""


class _MeasuredPart(msgspec.Struct, frozen=True):
    """The measured part as the run sees it: how long it took, what the server used, the memory that sessions added."""

    seconds: float
    usage: Usage
    bytes_per_session: float | None = None


class Run:
    """One run of a scenario."""

    def __init__(self, scenario: Scenario, target: Target, watcher: Watcher) -> None:
        self._scenario = scenario
        self._target = target
        self._watcher = watcher
        self._workers: list[WorkerHandle] = []
        self._sampler = Sampler(self._workers, target, watcher)
        self._started_at = dt.datetime.now(dt.UTC)

    async def perform(self) -> RunResult:
        """Start workers, have them do everything, and end them; raises LoadError."""
        async with self._working():
            sampling = asyncio.create_task(self._sampler.run())
            try:
                part = await (self._connect() if isinstance(self._scenario.load, IdleLoad) else self._talk())
                self._watcher.phase("reports", None)
                reports = await asyncio.gather(*(worker.report() for worker in self._workers))
            finally:
                sampling.cancel()
                await asyncio.wait({sampling})
        return self._result(part, reports)

    @contextlib.asynccontextmanager
    async def _working(self) -> AsyncIterator[None]:
        """Start the workers, and end them in the end."""
        scenario, key, name = self._scenario, self._target.issuer.pem(), uuid.uuid4().hex[:12]
        self._watcher.phase("workers start", None)
        try:
            for number in range(scenario.workers):
                people = len(range(number, scenario.people, scenario.workers))
                share = Share(number, scenario.workers)
                begin = Begin(scenario, self._target.address, key, f"{name}-{number}", people, share)
                self._workers.append(await WorkerHandle.start(begin))
            yield
        finally:
            await asyncio.gather(*(worker.end() for worker in self._workers))

    async def _order(self, order: AnyOrder) -> None:
        await asyncio.gather(*(worker.order(order) for worker in self._workers))

    async def _connect_first(self) -> None:
        self._watcher.phase("people connect", None)
        orders = (worker.order(ConnectPeople(-(-worker.people // _FIRST_PART))) for worker in self._workers)
        await asyncio.gather(*orders)

    async def _connect(self) -> _MeasuredPart:
        """Measured is the connecting; then everybody stays, and memory is read."""
        await self._connect_first()
        before, began = self._target.usage(), time.monotonic()
        here = sum(worker.counts.connected for worker in self._workers)
        self._sampler.zero_s = began
        await self._order(ConnectPeople(self._scenario.people, measured=True))
        seconds, usage = time.monotonic() - began, self._target.usage().since(before)
        self._watcher.phase("everybody is idle", self._scenario.seconds)
        await asyncio.sleep(self._scenario.seconds)
        added = self._target.usage().tchat_bytes - before.tchat_bytes
        known = before.tchat_bytes > 0 and self._scenario.people > here
        return _MeasuredPart(seconds, usage, added / (self._scenario.people - here) if known else None)

    async def _talk(self) -> _MeasuredPart:
        """Measured is what comes after the warm-up."""
        scenario = self._scenario
        await self._connect_first()
        await self._order(ConnectPeople(scenario.people))
        self._watcher.phase("dialogs are made", None)
        await self._order(Prepare())
        shared = isinstance(scenario.load, ChannelLoad)
        if shared:
            await gather_all(self._workers)
        begin_ns = time.monotonic_ns() + int(_LEAD_S * 1e9)
        from_ns = begin_ns + int(max(scenario.warm_up_s, scenario.ramp_s) * 1e9)
        times = Times(begin_ns, from_ns, from_ns + int(scenario.seconds * 1e9))
        self._sampler.zero_s = from_ns / 1e9
        performing = asyncio.create_task(self._order(Perform(times)))
        try:
            self._watcher.phase("warm-up", (from_ns - begin_ns) / 1e9)
            before, began = await self._read_usage(from_ns, performing)
            self._watcher.phase("measured", scenario.seconds)
            after, ended = await self._read_usage(times.until_ns, performing)
            self._watcher.phase("stragglers", None)
            await performing
            if shared:
                await reach_all(self._workers)
        finally:
            performing.cancel()
        return _MeasuredPart(ended - began, after.since(before))

    async def _read_usage(self, at_ns: int, performing: asyncio.Task[None]) -> tuple[Usage, float]:
        """What the server has used at this moment, and the moment; raises what the workers raise until then."""
        reached = asyncio.create_task(wait_until(at_ns))
        await asyncio.wait({reached, performing}, return_when=asyncio.FIRST_COMPLETED)
        if performing.done():
            performing.result()
        await reached
        return self._target.usage(), time.monotonic()

    def _result(self, part: _MeasuredPart, reports: Sequence[WorkerReport]) -> RunResult:
        scenario, counts = self._scenario, [report.measured for report in reports]
        result = RunResult(
            scenario=scenario.name,
            about=scenario.about,
            server=self._target.name,
            version=importlib.metadata.version("tchat"),
            started_at=self._started_at.isoformat(timespec="seconds"),
            machine=describe_machine(),
            seconds=part.seconds,
            people=scenario.people,
            connected=sum(each.connected for each in counts),
            acked=sum(each.acked for each in counts),
            delivered=sum(each.delivered for each in counts),
            connects=sum(each.connects for each in counts),
            cpu=Cpu(part.usage.tchat_s, part.usage.postgres_s, [each.cpu_s for each in counts]),
            delivery=_merge(report.delivery for report in reports),
            ack=_merge(report.ack for report in reports),
            connect=_merge(report.connect for report in reports),
            bytes_per_session=part.bytes_per_session,
            checks=_add_checks([report.checks for report in reports]),
            samples=self._sampler.samples(),
        )
        bottleneck = _find_bottleneck(result, reports)
        return with_thresholds(msgspec.structs.replace(result, bottleneck=bottleneck), scenario.thresholds)


def _merge(histograms: Iterable[str]) -> Percentiles | None:
    all_of_them = Latencies()
    for histogram in histograms:
        all_of_them.merge(histogram)
    return all_of_them.percentiles()


def _add_checks(parts: Sequence[Checks]) -> Checks:
    sums = {name: sum(getattr(part, name) for part in parts) for name in CHECK_COUNTS}
    return Checks(**sums, first=next((part.first for part in parts if part.first), ""))


def _find_bottleneck(result: RunResult, reports: Sequence[WorkerReport]) -> str:
    """Why the numbers show the load; empty if they do not."""
    share = max(result.cpu.workers_s, default=0.0) / result.seconds
    late_p99_ms = max(report.late_p99_ms for report in reports)
    counted_late_ms = max(report.counted_late_ms for report in reports)
    reasons = []
    if share > _WORKER_SHARE_MAX:
        reasons.append(f"a worker used {share:.0%} of a core: give the run more --workers")
    if late_p99_ms > _LATE_MS_MAX:
        reasons.append(f"messages left up to {late_p99_ms:.0f} ms (p99) after they were due")
    if counted_late_ms > _COUNTED_LATE_PART_MAX * result.seconds * 1000:
        reasons.append(f"a worker was too busy to count in time, by {counted_late_ms:,.0f} ms")
    return "; ".join(reasons)


def describe_machine() -> Machine:
    """This machine."""
    processor = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return Machine(psutil.cpu_count() or 1, processor, platform.platform(), platform.python_version())
