"""Every metric that a node exports is on the operator's page, and says what it is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from server.config.settings import EraserSettings, PipelineSettings
from server.node.metrics import Metrics
from server.writing.eraser import Eraser
from server.writing.horizon import Horizon
from server.writing.pipeline import Pipeline
from server.writing.position import Positions
from tests.support.clock import ManualClock

PAGE = Path(__file__).parents[3] / "docs" / "deployment.md"
ROW = re.compile(r"^\| `(\w+)` \| (\w+) \| (.+?) \| (.+?) \|$", re.MULTILINE)


def exported(sessions: int = 0) -> dict[str, tuple[str, str, float]]:
    """By the name of each metric of an idle node its type, its HELP text and its value."""
    no_journal: Any = None
    pipeline = Pipeline(no_journal, lambda _: None, PipelineSettings(), ManualClock(), incarnation=1)
    eraser = Eraser(no_journal, EraserSettings(), ManualClock())
    horizon = Horizon(
        no_journal, Positions(b"key", ManualClock(), age_max_s=1.0), ManualClock(), epoch=1, incarnation=1
    )
    metrics = Metrics(
        sessions=[None] * sessions,
        rooms=[],
        pipeline=pipeline,
        eraser=eraser,
        horizon=horizon,
        connections=lambda: 7,
    )
    text = generate_latest(metrics.registry).decode()
    return {
        sample.name: (family.type, family.documentation, sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def on_the_page() -> dict[str, tuple[str, str, str]]:
    """By the name of each metric its type, its meaning, and what to alarm on."""
    rows = ROW.findall(PAGE.read_text(encoding="utf-8"))
    return {name: (kind, meaning, alarm) for name, kind, meaning, alarm in rows}


def test_the_page_has_every_metric_and_no_other() -> None:
    assert on_the_page().keys() == exported().keys()


def test_the_page_says_type_and_meaning_as_the_node_does() -> None:
    said = {name: (kind, meaning) for name, (kind, meaning, _) in on_the_page().items()}
    assert said == {name: (kind, meaning) for name, (kind, meaning, _) in exported().items()}


def test_the_help_of_every_metric_is_a_sentence() -> None:
    assert {name: meaning for name, (_, meaning, _) in exported().items() if not re.match(r"[A-Z].*\.$", meaning)} == {}


def test_a_metric_is_read_when_it_is_asked_for() -> None:
    values = {name: value for name, (_, _, value) in exported(sessions=3).items()}
    assert (values["tchat_sessions"], values["tchat_connections"]) == (3, 7)
