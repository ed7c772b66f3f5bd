"""Every metric of a node: read off its parts when asked, so that the hot path counts plain integers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sized

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from server.writing.eraser import Eraser
from server.writing.horizon import Horizon
from server.writing.pipeline import Pipeline

Reading = Callable[[], float]


class Metrics(Collector):
    """The metrics of one node, named `tchat_...`. `connections` counts open websockets."""

    def __init__(
        self,
        *,
        sessions: Sized,
        rooms: Sized,
        pipeline: Pipeline,
        eraser: Eraser,
        horizon: Horizon,
        connections: Callable[[], int],
    ) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self._readings: list[tuple[type[Metric], str, str, Reading]] = [
            (GaugeMetricFamily, "sessions", "Sessions that have synced.", lambda: len(sessions)),
            (GaugeMetricFamily, "connections", "Open websockets.", connections),
            (GaugeMetricFamily, "rooms", "Rosters in memory.", lambda: len(rooms)),
            (GaugeMetricFamily, "pipeline_queued_rows", "Rows that wait for a lane.", lambda: pipeline.queued),
            (GaugeMetricFamily, "pipeline_queued_bytes", "Memory of those rows.", lambda: pipeline.queued_bytes),
            (
                GaugeMetricFamily,
                "pipeline_oldest_flush_seconds",
                "Longest time that a lane with work has had no answer of the database.",
                lambda: pipeline.oldest_flush_s,
            ),
            (
                GaugeMetricFamily,
                "pipeline_set_aside",
                "Dialogs that are set aside: the database does not answer for them.",
                lambda: pipeline.set_aside,
            ),
            (CounterMetricFamily, "pipeline_flushes", "Flushes that were answered.", lambda: pipeline.flushes),
            (CounterMetricFamily, "pipeline_rows", "Rows that got a verdict.", lambda: pipeline.rows),
            (CounterMetricFamily, "eraser_rows", "Rows that were erased in the background.", lambda: eraser.rows),
            (GaugeMetricFamily, "position_age_seconds", "Age of clients' positions.", lambda: horizon.age_s),
            (GaugeMetricFamily, "eraser_lag_seconds", "Age of the oldest row to erase.", lambda: eraser.lag_s),
        ]
        self.registry.register(self)
        ProcessCollector(registry=self.registry)

    def collect(self) -> Iterator[Metric]:
        """Read everything."""
        for family, name, meaning, reading in self._readings:
            yield family(f"tchat_{name}", meaning, value=reading())  # type: ignore[call-arg]
