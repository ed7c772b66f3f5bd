"""Results of runs made by hand."""

import msgspec
from hdrh.histogram import HdrHistogram

from loadtest.run_result import Checks, Cpu, Machine, Percentiles, RunResult, Sample

MACHINE = Machine(cores=2, processor="a processor", system="Linux 6", python="3.11")


def percentiles(*milliseconds: float) -> Percentiles:
    """The percentiles of these latencies, by the library."""
    histogram = HdrHistogram(1, 60_000_000, 3)
    for each in milliseconds:
        histogram.record_value(int(each * 1000))
    at = {q: histogram.get_value_at_percentile(q) / 1000 for q in (50, 90, 99, 99.9)}
    return Percentiles(
        len(milliseconds), at[50], at[90], at[99], at[99.9], max(milliseconds), histogram.encode().decode()
    )


def samples(count: int = 6) -> list[Sample]:
    """One each second, the first two of the warm-up; each second 100 acks, 10,000 deliveries, half a core."""
    return [
        Sample(
            at_s=float(k - 2),
            cpu=Cpu(k * 0.5, k * 0.2, [k * 0.3, k * 0.4]),
            resident_bytes=(60 + k) << 20,
            postgres_bytes=90 << 20,
            connected=1000,
            acked=k * 100,
            delivered=k * 10_000,
            p50_ms=1.0 + k / 10,
            p99_ms=4.0 + k,
        )
        for k in range(count)
    ]


def result(**changes: object) -> RunResult:
    """A good run of ten seconds: 1,000 acks, 100,000 deliveries, five CPU seconds."""
    good = RunResult(
        scenario="rooms",
        about="Fan-out",
        server="embedded",
        version="0.1.0",
        started_at="2026-01-02T03:04:05Z",
        machine=MACHINE,
        seconds=10.0,
        people=1000,
        connected=1000,
        acked=1000,
        delivered=100_000,
        cpu=Cpu(tchat_s=4.0, postgres_s=1.0, workers_s=[6.0]),
        delivery=percentiles(1.0, 2.0, 3.0, 40.0),
        checks=Checks(expected=100_000, received=100_000),
        samples=samples(),
    )
    return msgspec.structs.replace(good, **changes)
