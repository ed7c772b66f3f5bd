"""The metrics of all workers of a server as one page: what `/metrics` of their parent shows.

Counters and histograms are added up; the catalogue says what becomes of a gauge. Invariant: what is added up never
falls. So of a worker that does not answer, the last known counters are used, and those of one that has ended stay; what
it counted after it was last asked is lost.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from server.node.metrics import METRICS
from server.node.prometheus import Gauge, LabelledGauge, OverWorkers

_ADDED_UP = ("counter", "histogram")
_HOW: Mapping[str, OverWorkers] = {
    "process_start_time_seconds": "max",
    **{it.name: it.over_workers for _, part in METRICS for it in part if isinstance(it, Gauge | LabelledGauge)},
}
_JOIN: Mapping[OverWorkers, Callable[[float, float], float]] = {"sum": operator.add, "max": max, "min": min}


class WorkerMetrics:
    """What the workers have said of themselves, by their numbers."""

    def __init__(self) -> None:
        self._last: dict[int, list[Metric]] = {}
        self._past: list[Metric] = []

    def add_up(self, own: Iterable[Metric], answers: Mapping[int, str]) -> bytes:
        """The page: `own` is of the parent, `answers` the pages of those workers that have answered."""
        self._last |= {worker: list(text_string_to_metric_families(page)) for worker, page in answers.items()}
        silent = [families for worker, families in self._last.items() if worker not in answers]
        joined = _join(
            [
                *own,
                *(family for worker in answers for family in self._last[worker]),
                *(family for families in silent for family in families if family.type in _ADDED_UP),
                *self._past,
            ]
        )
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_JoinedMetrics(joined))
        return generate_latest(registry)

    def end(self, worker: int) -> None:
        """A worker has ended; the next one of its number counts from 0."""
        counted = [family for family in self._last.pop(worker, ()) if family.type in _ADDED_UP]
        self._past = _join([*self._past, *counted])


class _JoinedMetrics(Collector):
    """Metrics as the library wants them."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        """All of them."""
        yield from self._families


def _join(families: Iterable[Metric]) -> list[Metric]:
    """One metric of each name, with one value for each series."""
    joined: dict[str, Metric] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for family in families:
        joined.setdefault(family.name, Metric(family.name, family.documentation, family.type))
        series = values.setdefault(family.name, {})
        join = _JOIN[_HOW.get(family.name, "sum")]
        for sample in family.samples:
            key = sample.name, tuple(sample.labels.items())
            series[key] = join(series[key], sample.value) if key in series else sample.value
    for name, series in values.items():
        for (sample_name, labels), value in series.items():
            joined[name].add_sample(sample_name, dict(labels), value)
    return list(joined.values())
