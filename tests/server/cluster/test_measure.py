"""The measurement of several nodes from its command line, small."""

import json

import pytest

from tests.server.cluster import measure


def test_a_quick_measurement_finds_that_no_delivery_lacks(capsys: pytest.CaptureFixture[str]) -> None:
    assert measure.main(["--quick", "--only", "lost", "--only", "rates"]) == 0, capsys.readouterr().err
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["measurement"], line["variant"]) for line in lines] == [
        ("lost", "direct"),
        ("lost", "rooms"),
        ("rates", "100/s"),
    ]
    assert all(line["expected"] > 0 == line["lost"] for line in lines[:2])
    assert lines[2]["rows_per_flush"] >= 1
