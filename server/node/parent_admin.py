"""The private port of a server of several workers: what each of them answers on its own, put together."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Protocol

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from server.gateway.http_connection import ASGIApp
from server.node.admin import Answer, private_app
from server.node.connected import Here
from server.node.logs import RECORDS
from server.node.process_metrics import ProcessMetrics
from server.node.worker_metrics import WorkerMetrics
from server.node.worker_process import WorkerAnswer, WorkerProcess


class Workers(Protocol):
    """What is asked of the parent."""

    workers: list[WorkerProcess]
    metrics: WorkerMetrics
    restarts: int


OF_THE_PARENT = (
    ("tchat_workers", "gauge", "Workers that serve.", "below `server.workers` for a minute"),
    (
        "tchat_worker_restarts_total",
        "counter",
        "Workers that ended without being asked to, and were started again.",
        "it rises: the log says how each ended",
    ),
    (
        "tchat_worker_silences_total",
        "counter",
        "Times that a worker gave its parent no answer in time.",
        "it rises: a worker stands still, or the machine has too little processor time",
    ),
)
"""Name, type, meaning, when to look at it."""


def parent_app(parent: Workers) -> ASGIApp:
    """`GET /healthz`, `/readyz`, `/metrics` and `/connected`, as on the private port of a node.

    The server is ready when every worker is. The answer of `/connected` is a list, of those workers that answered.
    """

    async def answer_ready(_query: bytes) -> Answer:
        answers = await _ask_all(parent.workers, "/readyz")
        said = [_said(*each) for each in zip(parent.workers, answers, strict=True)]
        status = 200 if all(answer is not None and answer.status == 200 for answer in answers) else 503
        return status, "text/plain", "".join(said).encode()

    async def answer_metrics(_query: bytes) -> Answer:
        answers = await _ask_all(parent.workers, "/metrics")
        pages = {
            worker.number: answer.body.decode()
            for worker, answer in zip(parent.workers, answers, strict=True)
            if answer is not None and answer.status == HTTPStatus.OK
        }
        return 200, CONTENT_TYPE_LATEST, parent.metrics.add_up(list(_own_metrics(parent)), pages)

    async def answer_connected(query: bytes) -> Answer:
        answers = await _ask_all(parent.workers, f"/connected?{query.decode('latin-1')}")
        given = [answer for answer in answers if answer is not None]
        if refused := next((answer for answer in given if answer.status != 200), None):
            return refused.status, "text/plain", refused.body
        here = [msgspec.json.decode(answer.body, type=Here) for answer in given]
        return 200, "application/json", msgspec.json.encode(here)

    return private_app({"/readyz": answer_ready, "/metrics": answer_metrics, "/connected": answer_connected})


async def _ask_all(workers: Sequence[WorkerProcess], target: str) -> list[WorkerAnswer | None]:
    return await asyncio.gather(*(worker.ask(target) for worker in workers))


def _said(worker: WorkerProcess, answer: WorkerAnswer | None) -> str:
    if answer is not None:
        return f"{worker.name}: {answer.body.decode()}"
    why = "the worker starts, or has ended" if worker.serves is None else "the worker does not answer"
    return f"{worker.name}: not ready: {why}\n"


def _own_metrics(parent: Workers) -> Iterator[Metric]:
    values = (
        sum(worker.serves is not None for worker in parent.workers),
        parent.restarts,
        sum(worker.silences for worker in parent.workers),
    )
    for (name, kind, meaning, _), value in zip(OF_THE_PARENT, values, strict=True):
        family = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
        yield family(name, meaning, value=value)
    records = CounterMetricFamily("tchat_log_records_total", "Records logged, by level.", labels=["level"])
    for level, count in RECORDS.items():
        records.add_metric([level], count)
    yield records
    yield from ProcessMetrics().collect()
