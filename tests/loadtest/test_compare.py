"""Two sides of runs against each other."""

import io
from pathlib import Path

import msgspec
import pytest

from loadtest.compare import ComparedNumber, Comparison, compare, read_side, write_comparison
from loadtest.run_result import Checks, Cpu, Machine, ResultError
from tests.loadtest.results import percentiles, result


def number(comparison: Comparison, metric: str) -> ComparedNumber:
    return next(each for each in comparison.numbers if each.metric == metric)


def test_the_same_run_is_nowhere_better_or_worse() -> None:
    comparison = compare([result()], [result()])
    assert {each.verdict for each in comparison.numbers} == {"same", ""}
    assert not comparison.worse
    assert comparison.notes == []


def test_more_deliveries_are_better_and_more_latency_is_worse() -> None:
    comparison = compare([result()], [result(delivered=120_000, delivery=percentiles(1.0, 2.2, 3.0, 40.0))])
    assert number(comparison, "delivered_per_s").verdict == "better"
    assert number(comparison, "delivered_per_s").change_percent == pytest.approx(20)
    assert number(comparison, "delivery_p50_ms").verdict == "worse"
    assert comparison.worse


def test_a_change_within_the_tolerance_is_not_marked() -> None:
    slower = result(delivered=96_000)
    assert not number(compare([result()], [slower]), "delivered_per_s").beyond
    assert not compare([result()], [slower]).worse
    assert compare([result()], [slower], tolerance_percent=3.0).worse


def test_cores_are_shown_and_not_judged() -> None:
    cheap, dear = result(acked=0, delivered=0), result(acked=0, delivered=0, cpu=Cpu(tchat_s=9.0))
    assert number(compare([cheap], [dear]), "tchat_cores").verdict == ""
    assert not compare([cheap], [dear]).worse


def test_what_b_no_longer_does_is_worse() -> None:
    comparison = compare([result()], [result(delivery=None)])
    assert number(comparison, "delivery_p99_ms").beyond
    assert comparison.worse


def test_a_side_of_several_runs_is_its_medians_with_their_spread() -> None:
    found = number(compare([result()], [result(acked=each) for each in (900, 1000, 1300)]), "acked_per_s")
    assert (found.b, found.b_spread, found.change_percent) == (100, 40, 0)


def test_a_run_that_failed_is_worse_whatever_its_numbers() -> None:
    comparison = compare([result()], [result(checks=Checks(expected=2, received=1, lost=1))])
    assert comparison.worse
    assert "B failed: of 2 expected deliveries 1 came; 1 lost." in comparison.notes


def test_other_scenarios_and_machines_are_told() -> None:
    machine = Machine(cores=64, processor="another", system="Linux", python="3.11")
    notes = compare([result()], [result(scenario="direct", machine=machine, people=5)]).notes
    assert notes == [
        "The runs are of different scenarios: direct, rooms.",
        "The runs differ in people or in length.",
        "The runs are of different machines: a processor, 2 cores; another, 64 cores.",
    ]


def test_a_side_is_a_file_or_a_folder_of_files(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.json").write_bytes(msgspec.json.encode(result(scenario=name)))
    assert [run.scenario for run in read_side(tmp_path)] == ["one", "two"]
    assert read_side(tmp_path / "two.json") == [result(scenario="two")]


@pytest.mark.parametrize("content", [b"{}", b"rubbish", b'{"seconds": 0}'])
def test_what_is_no_result_is_refused_with_its_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "one.json"
    path.write_bytes(content)
    with pytest.raises(ResultError, match=r"one\.json is not the result of a run"):
        read_side(path)
    with pytest.raises(ResultError, match="none"):
        read_side(tmp_path / "none")


def test_the_table_marks_what_is_beyond_the_tolerance_and_concludes() -> None:
    stream = io.StringIO()
    write_comparison(compare([result()], [result(acked=500, delivered=101_000)]), stream)
    lines = {line.split()[0]: line.split() for line in stream.getvalue().splitlines()}
    assert lines["acked_per_s"] == ["acked_per_s", "100", "50", "-50.0", "%", "WORSE"]
    assert lines["delivered_per_s"] == ["delivered_per_s", "10,000", "10,100", "+1.0", "%", "better"]
    assert "B is worse beyond 5 % in: acked_per_s, acked_per_cpu_s." in stream.getvalue()
