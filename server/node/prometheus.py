"""How metrics are declared, and how those of a node are shown to Prometheus; `metrics.py` has the metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sized
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from server.cluster.hints import Hints
from server.cluster.peers import Peers
from server.delivery.flush_turn import FlushTurn
from server.delivery.receipts import Receipts
from server.delivery.resequencer import Resequencer
from server.delivery.rooms import Rooms
from server.gateway.acceptor import Acceptor
from server.histogram import BOUNDS_S, Histogram
from server.identity.rates import SharedRateLimiter
from server.node.process_metrics import ProcessMetrics
from server.node.redis_start import RedisEngines
from server.payments.paying import Paying
from server.session.catch_up import CatchUp
from server.session.commands.keys import Keys
from server.session.rates import SessionRates
from server.writing.author_purge import AuthorPurge
from server.writing.dialog_purge import DialogPurge
from server.writing.eraser import Eraser
from server.writing.horizon import Horizon
from server.writing.mover import Mover
from server.writing.pipeline import Pipeline
from server.writing.put_back import PutBack
from server.writing.trimmer import Trimmer


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the metrics of a node are read off."""

    version: str
    name: str
    incarnation: int
    registry: Sized
    acceptor: Acceptor
    rates: SessionRates
    keys: Keys
    catch_up: CatchUp
    rooms: Rooms
    flush_turn: FlushTurn
    receipts: Receipts
    pipeline: Pipeline
    horizon: Horizon
    eraser: Eraser
    mover: Mover | None
    peers: Peers | None
    resequencer: Resequencer | None
    put_back: PutBack | None
    trimmer: Trimmer | None
    dialog_purge: DialogPurge | None
    author_purge: AuthorPurge | None
    webhooks: Callable[[], dict[str, int]]
    paying: Paying
    hints: Hints | None
    redis: RedisEngines | None
    shared_limiter: SharedRateLimiter | None
    work: Callable[[], Mapping[str, float]]
    """By the name of each sort of work that one node does for all: 1 if it is this one."""
    late_s: Callable[[], float]
    """Seconds since the start, in sum, by which the tick of each second was late."""
    connections: Mapping[str, Callable[[], int]]
    """By the name of each pool: how many of its connections to PostgreSQL are in use."""


OverWorkers = Literal["sum", "max", "min"]


class Declared(msgspec.Struct, frozen=True, kw_only=True):
    """One metric. A part that this node does not have has no value: then `read` gives None, and nothing is shown."""

    name: str
    """Ends with its unit; a counter ends with `_total`."""
    meaning: str
    watch: str = "none"
    """When to look at it."""


class Gauge(Declared, frozen=True, kw_only=True):
    """A number that rises and falls."""

    read: Callable[[Parts], float | None]
    over_workers: OverWorkers = "sum"
    """What it is of several workers: an age is the greatest one, not the sum."""


class Counter(Declared, frozen=True, kw_only=True):
    """A number that only rises, from the start of the node."""

    read: Callable[[Parts], float | None]


class LabelledGauge(Declared, frozen=True, kw_only=True):
    """A gauge for each value of one label."""

    label: str
    read: Callable[[Parts], Mapping[str, float] | None]
    over_workers: OverWorkers = "sum"
    """The same, for each value of the label."""


class LabelledCounter(Declared, frozen=True, kw_only=True):
    """A counter for each value of one label."""

    label: str
    read: Callable[[Parts], Mapping[str, float] | None]


class Durations(Declared, frozen=True, kw_only=True):
    """A histogram of seconds."""

    read: Callable[[Parts], Histogram | None]


AnyDeclared = Gauge | Counter | LabelledGauge | LabelledCounter | Durations
Catalogue = tuple[tuple[str, tuple[AnyDeclared, ...]], ...]
"""Metrics by part of the node."""


class Metrics(Collector):
    """The metrics of one node, and of its process."""

    def __init__(self, catalogue: Catalogue, parts: Parts) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self._catalogue = catalogue
        self._parts = parts
        self.registry.register(self)
        self.registry.register(ProcessMetrics())

    def collect(self) -> Iterator[Metric]:
        """Read everything."""
        for _, declared in self._catalogue:
            for each in declared:
                family = _read(each, self._parts)
                if family is not None:
                    yield family


def _read(declared: AnyDeclared, parts: Parts) -> Metric | None:
    value = declared.read(parts)
    if value is None:
        return None
    name, meaning = declared.name, declared.meaning
    if isinstance(value, Histogram):
        return show_histogram(name, meaning, value)
    kind = CounterMetricFamily if isinstance(declared, Counter | LabelledCounter) else GaugeMetricFamily
    if not isinstance(value, Mapping):
        return kind(name, meaning, value=value)
    assert isinstance(declared, LabelledGauge | LabelledCounter)
    family = kind(name, meaning, labels=declared.label.split(","))
    for labels, number in value.items():
        family.add_metric(labels.split(","), number)
    return family


def show_histogram(name: str, meaning: str, value: Histogram) -> HistogramMetricFamily:
    """A histogram as Prometheus reads it."""
    buckets = zip([*map(str, BOUNDS_S), "+Inf"], accumulate(value.counts), strict=True)
    return HistogramMetricFamily(name, meaning, buckets=list(buckets), sum_value=value.sum_s)
