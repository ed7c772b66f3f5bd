"""The private port of `tchat commerce`: whether it is alive and its books answer, and its metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from server.commerce.commerce_edge import CommerceEdge
from server.gateway.http_connection import ASGIApp
from server.node.admin import Answer, private_app
from server.node.commerce_composition import Commerce
from server.node.process_metrics import ProcessMetrics
from server.node.prometheus import show_histogram
from storage.unavailable import StorageUnavailableError

_READY_TIMEOUT_S = 2.0

OF_COMMERCE = (
    (
        "tchat_commerce_requests_total",
        "counter",
        "Requests that were answered. By `status` of HTTP.",
        '`status="500"` is a fault of ours; `status="503"`: the books do not answer, or too much is asked at once',
    ),
    (
        "tchat_commerce_requests_under_way",
        "gauge",
        "Requests that are worked on.",
        "it comes near `commerce_service.requests_max`",
    ),
    (
        "tchat_commerce_request_seconds",
        "histogram",
        "How long a request took, to the end of its answer.",
        "its 99th percentile is above 0.5: the chat gives up after 2 s",
    ),
    (
        "tchat_commerce_due_seconds",
        "gauge",
        "For how long the oldest payment that is due waits to be expired, as of this request.",
        "above 60: expiring does not keep up, or fails; the log says why",
    ),
    (
        "tchat_commerce_intent_oldest_seconds",
        "gauge",
        "How old the oldest top-up, withdrawal or refund is that a gateway has not ended.",
        "above 3,600: the gateway does not answer, or does not know it; see `GET /v1/reconciliation`",
    ),
    (
        "tchat_commerce_suspense_oldest_seconds",
        "gauge",
        "For how long the oldest money that fits nothing waits for a person.",
        "above 86,400: release it to whom it belongs (`GET /v1/suspense`)",
    ),
    (
        "tchat_commerce_gateway_behind_seconds",
        "gauge",
        "How far the reading of changes is behind, at the gateway where it is furthest.",
        "above 600: a list cannot be read; the log says why",
    ),
)
"""Each with its type, its meaning, and when to look at it."""


def commerce_admin(commerce: Commerce) -> ASGIApp:
    """`GET /healthz`, `/readyz` and `/metrics`."""

    async def answer_ready(_query: bytes) -> Answer:
        try:
            async with asyncio.timeout(_READY_TIMEOUT_S):
                await commerce.ledger.read_oldest_due_s()
        except (StorageUnavailableError, TimeoutError):
            return 503, "text/plain", b"not ready: the books do not answer\n"
        return 200, "text/plain", b"ready\n"

    async def answer_metrics(_query: bytes) -> Answer:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_CommerceMetrics(commerce.app, await _read_ages(commerce)))
        registry.register(ProcessMetrics())
        return 200, CONTENT_TYPE_LATEST, generate_latest(registry)

    return private_app({"/readyz": answer_ready, "/metrics": answer_metrics})


async def _read_ages(commerce: Commerce) -> list[float]:
    """The values of the last metrics, in their order; none while the books do not answer."""
    gateways = commerce.gateways.all
    names, tenants = [each.engine.name for each in gateways], list({each.tenant for each in gateways})
    try:
        due_s = await commerce.ledger.read_oldest_due_s()
        ages = await commerce.intents.read_ages(names, tenants)
    except StorageUnavailableError:
        return []
    return [due_s, ages.intent_s, ages.suspense_s, ages.behind_s]


class _CommerceMetrics(Collector):
    def __init__(self, edge: CommerceEdge, ages: list[float]) -> None:
        self._edge = edge
        self._ages = ages

    def collect(self) -> Iterator[Metric]:
        """Read everything."""
        meanings = {name: meaning for name, _, meaning, _ in OF_COMMERCE}
        requests, under_way, took, *of_ages = meanings
        by_status = CounterMetricFamily(requests, meanings[requests], labels=["status"])
        for status, count in self._edge.answers.items():
            by_status.add_metric([str(status)], count)
        yield by_status
        yield GaugeMetricFamily(under_way, meanings[under_way], value=self._edge.under_way)
        yield show_histogram(took, meanings[took], self._edge.durations)
        for name, age in zip(of_ages, self._ages, strict=False):  # while the books do not answer there are none
            yield GaugeMetricFamily(name, meanings[name], value=age)
