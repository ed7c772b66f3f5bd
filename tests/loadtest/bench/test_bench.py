"""The bench, tiny: from its command line with a real server, and single runs on what tchat is measured against."""

import json
from pathlib import Path

import pytest

from loadtest.bench.__main__ import main
from loadtest.bench.bench_rows import ROWS, RUNS, BenchRun
from loadtest.bench.rounds import BenchPlan, measure
from loadtest.run_result import METRICS, Sample

QUICK = BenchPlan(ROWS, 1, 0, quick=True)


class NobodyWatches:
    """A run that nobody looks at."""

    def phase(self, name: str, total_s: float | None) -> None:
        pass

    def show(self, sample: Sample) -> None:
        pass


def test_a_quick_bench_prints_its_rows_and_writes_every_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bench.json"
    assert main(["--quick", "--rows", "3", "--rounds", "1", "--json", str(file)]) == 0, capsys.readouterr()
    printed = capsys.readouterr()
    assert "rooms of 100, one outstanding" in printed.out
    assert "--seed" in printed.err
    report = json.loads(file.read_text())
    (number,) = report["numbers"]
    assert (number["row"], number["must"], len(number["values"])) == (3, 110, 1)
    (run,) = report["runs"]
    assert (run["row"], run["run"], run["server"], run["scenario"]) == (3, "rooms-one", "tchat", "rooms-one")
    assert set(run["rounds"][0]["metrics"]) == set(METRICS)
    assert f"counted a step in {run['rounds'][0]['noise']['step_ns_least']:.0f} to" in printed.out


def test_a_run_that_fails_is_told_and_does_not_end_the_bench(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(RUNS, "rooms-one", BenchRun(scenario="rooms-one", server="no_server"))
    assert main(["--quick", "--rows", "3", "--rounds", "2"]) == 1
    printed = capsys.readouterr().out
    assert "none" in printed
    assert "rooms-one, round 2: The baseline no_server did not start." in printed


@pytest.mark.parametrize("name", ["broadcast", "queue"])
def test_the_same_load_runs_against_a_minimal_server(name: str) -> None:
    found = measure(RUNS[name], QUICK, NobodyWatches())
    assert set(found.metrics) == set(METRICS)
    assert found.metrics["postgres_cores"] == 0


def test_the_bound_has_one_metric() -> None:
    assert set(measure(RUNS["floor"], QUICK, NobodyWatches()).metrics) == {"delivered_per_tchat_cpu_s"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rows", "1,99"], "there is no row 99"),
        (["--rows", "one"], "'one' is no list of rows, such as 1,2,10"),
        (["--rounds", "0"], "'0' is no number from above 0"),
        (["--seconds", "-1"], "'-1' is no number from above 0"),
        (["--json", "/no/such/folder/bench.json"], "name a file in a folder that you may write"),
    ],
)
def test_what_a_bench_cannot_do_is_refused_before_it_begins(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert said in capsys.readouterr().err
