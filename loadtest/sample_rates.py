"""What happened each second between two samples, whose numbers are totals."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import msgspec

from loadtest.run_result import Sample


class SampleRates(msgspec.Struct, frozen=True):
    """Messages and deliveries per second, and cores, up to `at_s`; `worker_cores` are those of the busiest worker."""

    at_s: float
    acked_per_s: float
    delivered_per_s: float
    tchat_cores: float
    postgres_cores: float
    worker_cores: float


def rates_between(before: Sample, now: Sample) -> SampleRates | None:
    """The rates between two samples; None if no time has passed."""
    passed_s = now.at_s - before.at_s
    if passed_s <= 0:
        return None
    workers_s = [used - was for used, was in zip(now.cpu.workers_s, before.cpu.workers_s, strict=False)]
    return SampleRates(
        at_s=now.at_s,
        acked_per_s=(now.acked - before.acked) / passed_s,
        delivered_per_s=(now.delivered - before.delivered) / passed_s,
        tchat_cores=(now.cpu.tchat_s - before.cpu.tchat_s) / passed_s,
        postgres_cores=(now.cpu.postgres_s - before.cpu.postgres_s) / passed_s,
        worker_cores=max(workers_s, default=0.0) / passed_s,
    )


def all_rates(samples: Iterable[Sample]) -> list[SampleRates]:
    """The rates between each sample and the next."""
    return [rates for before, now in pairwise(samples) if (rates := rates_between(before, now)) is not None]
