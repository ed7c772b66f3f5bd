"""Each second one look at a run: what was done, what the server and the workers use, the server's own metrics."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Protocol

import msgspec

from loadtest.latencies import DelayCounts, add_counts, percentile_ms
from loadtest.loads import until_whole_second_s
from loadtest.run_result import Cpu, Sample
from loadtest.target import Target
from loadtest.worker_handle import WorkerHandle

_AFTER_WORKERS_S = 0.1
"""Workers say their counts on each whole second: a look must not come before one and after the next."""


class Watcher(Protocol):
    """Who is told how a run goes."""

    def phase(self, name: str, total_s: float | None) -> None:
        """A part of the run begins, which takes so long, if that is known."""

    def show(self, sample: Sample) -> None:
        """One look at the run."""


class Sampler:
    """The samples of one run; `zero_s` is when its measured part begins, by the monotonic clock."""

    def __init__(self, workers: Sequence[WorkerHandle], target: Target, watcher: Watcher) -> None:
        self.zero_s = time.monotonic()
        self._workers = workers
        self._target = target
        self._watcher = watcher
        self._samples: list[tuple[float, Sample]] = []

    def samples(self) -> list[Sample]:
        """Those taken so far."""
        return [msgspec.structs.replace(sample, at_s=round(at_s - self.zero_s, 3)) for at_s, sample in self._samples]

    async def run(self) -> None:
        """Take samples until cancelled."""
        while True:
            at_s = time.monotonic()
            sample = await self._look()
            self._samples.append((at_s, sample))
            self._watcher.show(msgspec.structs.replace(sample, at_s=at_s - self.zero_s))
            await asyncio.sleep(until_whole_second_s() + _AFTER_WORKERS_S)

    async def _look(self) -> Sample:
        usage = self._target.usage()
        counts = [worker.counts for worker in self._workers]
        delays: DelayCounts = {}
        for worker in self._workers:
            add_counts(delays, worker.take_delays())
        metrics: dict[str, float] = {}
        with contextlib.suppress(OSError):  # last: it takes time, and the rest is of one moment
            metrics = await asyncio.to_thread(self._target.read_metrics)
        return Sample(
            at_s=0.0,
            cpu=Cpu(usage.tchat_s, usage.postgres_s, [each.cpu_s for each in counts]),
            resident_bytes=usage.tchat_bytes,
            postgres_bytes=usage.postgres_bytes,
            connected=sum(each.connected for each in counts),
            acked=sum(each.acked for each in counts),
            delivered=sum(each.delivered for each in counts),
            p50_ms=percentile_ms(delays, 50),
            p99_ms=percentile_ms(delays, 99),
            metrics=metrics,
        )
