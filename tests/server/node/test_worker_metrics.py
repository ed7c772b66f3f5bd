"""The page of several workers: what is counted is added up and never falls; a gauge is joined as the catalogue says."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from server.node.metrics import METRICS
from server.node.prometheus import Gauge, LabelledGauge
from server.node.worker_metrics import WorkerMetrics

GAUGES = {it.name: it for _, part in METRICS for it in part if isinstance(it, Gauge | LabelledGauge)}


def page(rows: int = 0, sessions: int = 0, age: float = 0.0, whole: int = 1, slow: int = 0) -> str:
    """What a worker says of itself."""
    return (
        f"# TYPE tchat_pipeline_rows_total counter\ntchat_pipeline_rows_total {rows}\n"
        f'# TYPE tchat_commands_total counter\ntchat_commands_total{{rate="send"}} {rows}\n'
        f"# TYPE tchat_sessions gauge\ntchat_sessions {sessions}\n"
        f"# TYPE tchat_position_age_seconds gauge\ntchat_position_age_seconds {age}\n"
        f"# TYPE tchat_cluster_presence_whole gauge\ntchat_cluster_presence_whole {whole}\n"
        "# TYPE tchat_pipeline_flush_seconds histogram\n"
        f'tchat_pipeline_flush_seconds_bucket{{le="0.1"}} {rows}\n'
        f'tchat_pipeline_flush_seconds_bucket{{le="+Inf"}} {rows + slow}\n'
        f"tchat_pipeline_flush_seconds_count {rows + slow}\ntchat_pipeline_flush_seconds_sum {slow}\n"
    )


def read(text: bytes) -> dict[str, float]:
    """By name and labels."""
    return {
        sample.name + "".join(f"[{value}]" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_counters_and_histograms_are_added_up_and_gauges_are_joined_as_they_are_declared() -> None:
    answers = {0: page(rows=3, sessions=2, age=1.5, whole=0), 1: page(rows=4, sessions=5, age=0.5, slow=1)}
    assert read(WorkerMetrics().add_up([], answers)) == {
        "tchat_pipeline_rows_total": 7,
        "tchat_commands_total[send]": 7,
        "tchat_sessions": 7,
        "tchat_position_age_seconds": 1.5,
        "tchat_cluster_presence_whole": 0,
        "tchat_pipeline_flush_seconds_bucket[0.1]": 7,
        "tchat_pipeline_flush_seconds_bucket[+Inf]": 8,
        "tchat_pipeline_flush_seconds_count": 8,
        "tchat_pipeline_flush_seconds_sum": 1,
    }


def test_what_is_counted_never_falls_when_a_worker_is_silent_ends_or_begins_anew() -> None:
    metrics = WorkerMetrics()
    metrics.add_up([], {0: page(rows=3, sessions=2), 1: page(rows=4, sessions=5)})
    silent = read(metrics.add_up([], {1: page(rows=6, sessions=5)}))
    assert (silent["tchat_pipeline_rows_total"], silent["tchat_sessions"]) == (9, 5)
    for _ in range(2):
        metrics.end(0)  # the second time it has said nothing since
    ended = read(metrics.add_up([], {1: page(rows=6, sessions=5)}))
    assert (ended["tchat_pipeline_rows_total"], ended["tchat_sessions"]) == (9, 5)
    anew = read(metrics.add_up([], {0: page(rows=1, sessions=1), 1: page(rows=6, sessions=5)}))
    assert (anew["tchat_pipeline_rows_total"], anew["tchat_sessions"]) == (10, 6)
    assert anew["tchat_pipeline_flush_seconds_count"] == 10


@pytest.mark.parametrize("name", GAUGES)
def test_an_age_is_that_of_the_worst_worker(name: str) -> None:
    assert GAUGES[name].over_workers == "max" or not name.endswith("_seconds")
