"""The alert rules and the dashboard name metrics that there are, and the page for the night has each alert."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from server.node.commerce_admin import OF_COMMERCE
from server.node.metrics import METRICS
from server.node.parent_admin import OF_THE_PARENT
from server.node.process_metrics import OF_THE_PROCESS
from server.node.relaying import OF_THE_RELAY

DOCS = Path(__file__).parents[3] / "docs"
RULES = DOCS / "operations" / "alerts.yml"
DASHBOARD = DOCS / "operations" / "dashboard.json"
METRIC_NAMES = {each.name for _, declared in METRICS for each in declared} | {
    name for name, *_ in OF_THE_PROCESS + OF_THE_PARENT + OF_THE_RELAY + OF_COMMERCE
}


def metrics_of(expression: str) -> set[str]:
    """The metrics in a PromQL expression; of a histogram, its name without the suffix of a series."""
    found = re.findall(r"\b(?:tchat|process)_\w+", re.sub(r'"[^"]*"', "", expression))
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in found}


def alerts() -> dict[str, str]:
    """By the name of each alert the text of its rule."""
    parts = re.split(r"^ +- alert: (\w+)\n", RULES.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def sections() -> dict[str, str]:
    """By the name of each alert what the page says of it."""
    parts = re.split(r"^### (\w+)\n", (DOCS / "operations.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_every_alert_has_its_section_on_the_page() -> None:
    assert list(alerts()) == list(sections())
    assert all(len(text.strip()) > 100 for text in sections().values())


@pytest.mark.parametrize("name", alerts())
def test_an_alert_names_metrics_that_there_are(name: str) -> None:
    rule = alerts()[name]
    expression = rule[: rule.index("labels:")]
    assert metrics_of(expression) <= METRIC_NAMES
    assert metrics_of(expression) or 'up{job="tchat"}' in expression
    assert re.search(r"severity: (page|ticket)\b", rule)
    assert "summary:" in rule


def test_the_dashboard_shows_metrics_that_there_are() -> None:
    panels = [panel for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"] if "targets" in panel]
    shown = set().union(*(metrics_of(target["expr"]) for panel in panels for target in panel["targets"]))
    assert panels
    assert shown <= METRIC_NAMES
    assert all(metrics_of(target["expr"]) for panel in panels for target in panel["targets"])


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_prometheus_accepts_the_rules() -> None:
    command = ["promtool", "check", "rules", str(RULES)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
