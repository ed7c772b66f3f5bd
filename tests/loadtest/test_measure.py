"""The measurement from its command line, small: a real server, a real load, a report."""

import json
from pathlib import Path

import pytest

from loadtest import measure


def test_a_quick_measurement_reports_every_load(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "report.json"
    assert measure.main(["--quick", "--json", str(report)]) == 0, capsys.readouterr().err
    found = json.loads(report.read_text())
    assert list(found["stages"]) == [
        "first connects",
        "reconnects",
        "direct, saturated",
        "direct, half of that",
        "rooms of 10, 1 outstanding",
        "rooms of 10, 5 outstanding",
    ]
    assert all(stage["done"] > 0 for stages in found["stages"].values() for stage in stages)
    assert "direct, saturated" in capsys.readouterr().out
