"""What Prometheus is told: read off the node's parts when asked, so that the hot path counts plain integers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

Reading = Callable[[], float]


class Metrics(Collector):
    """Named readings of gauges and counters."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self._readings: list[tuple[type[Metric], str, str, Reading]] = []
        self.registry.register(self)
        ProcessCollector(registry=self.registry)

    def gauge(self, name: str, meaning: str, reading: Reading) -> None:
        """Something that goes up and down."""
        self._readings.append((GaugeMetricFamily, name, meaning, reading))

    def counter(self, name: str, meaning: str, reading: Reading) -> None:
        """Something that only grows."""
        self._readings.append((CounterMetricFamily, name, meaning, reading))

    def collect(self) -> Iterator[Metric]:
        """Read everything."""
        for family, name, meaning, reading in self._readings:
            yield family(f"tchat_{name}", meaning, value=reading())  # type: ignore[call-arg]
