"""The bench from its command line, tiny: real servers, a real load, a table and its JSON."""

import json
from pathlib import Path

import pytest

from loadtest.bench.__main__ import main
from loadtest.bench.bench_rows import RUNS, BenchRun
from loadtest.run_result import METRICS


def test_a_quick_bench_prints_its_rows_and_writes_every_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bench.json"
    assert main(["--quick", "--rows", "10", "--rounds", "1", "--json", str(file)]) == 0, capsys.readouterr()
    printed = capsys.readouterr()
    assert "times websockets.broadcast" in printed.out
    assert "--seed" in printed.err
    report = json.loads(file.read_text())
    assert [number["row"] for number in report["numbers"]] == [10] * 4
    assert all(number["least"] > 0 for number in report["numbers"])
    assert {each["run"]: each["server"] for each in report["runs"]} == {
        "rooms": "tchat",
        "broadcast": "broadcast_server",
        "queue": "queue_server",
        "floor": "floor",
        "floor-joined": "floor",
    }
    (tchat,) = report["runs"][0]["rounds"]
    assert set(tchat["metrics"]) == set(METRICS)


def test_a_run_that_fails_is_told_and_does_not_end_the_bench(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(RUNS, "rooms-one", BenchRun(scenario="rooms-one", server="no_server"))
    assert main(["--quick", "--rows", "3", "--rounds", "2"]) == 1
    printed = capsys.readouterr().out
    assert "none" in printed
    assert "rooms-one, round 2: The baseline no_server did not start." in printed


def test_a_row_that_there_is_not_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--rows", "1,99"])
    assert "there is no row 99" in capsys.readouterr().err
