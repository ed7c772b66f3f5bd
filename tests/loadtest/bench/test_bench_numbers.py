"""Medians, ratios and targets, without a run."""

import pytest

from loadtest.bench.bench_numbers import Met, Spread, measured
from loadtest.bench.bench_rows import RunNumbers, TargetNumber


def run(name: str, at: int, value: float | None) -> RunNumbers:
    return RunNumbers(name, at, {"acked_per_cpu_s": value})


def number(**fields: object) -> TargetNumber:
    return TargetNumber(**{"what": "", "run": "one", "metric": "acked_per_cpu_s", **fields})  # type: ignore[arg-type]


def test_a_number_is_the_median_of_its_rounds_in_the_unit_of_its_target() -> None:
    done = [run("one", 1, 5_000.0), run("two", 1, 1.0), run("one", 2, 9_000.0), run("one", 3, 6_000.0)]
    found = measured(number(factor=1e-3), done)
    assert found is not None
    assert (found.median, found.least, found.most) == (6, 5, 9)


def test_a_ratio_is_that_of_runs_of_the_same_round() -> None:
    done = [run("two", 2, 10.0), run("one", 1, 8.0), run("one", 2, 30.0), run("two", 1, 2.0), run("one", 3, 1.0)]
    found = measured(number(beside="two", factor=2), done)
    assert found is not None
    assert sorted(found.values) == [6.0, 8.0]


def test_what_no_round_has_is_not_measured() -> None:
    failed = RunNumbers("one", 1, trouble="it did not start")
    assert measured(number(), [failed, run("two", 1, 3.0), run("one", 2, None)]) is None
    assert measured(number(beside="two"), [run("one", 1, 3.0), run("two", 1, 0.0)]) is None


@pytest.mark.parametrize(
    ("median", "more_is_better", "less_is_better"),
    [(10, Met.AIM, Met.BELOW), (9, Met.MUST, Met.BELOW), (8, Met.MUST, Met.BELOW), (5, Met.BELOW, Met.MUST)],
)
def test_the_median_is_held_against_both_targets(median: float, more_is_better: Met, less_is_better: Met) -> None:
    found = Spread([median, median - 3, median + 3])
    assert found.met(number(must=8, aim=10)) == more_is_better
    assert found.met(number(must=7, aim=2, at_most=True)) == less_is_better
    assert found.met(number()) == Met.NONE


def test_a_target_without_an_aim_is_met_or_not() -> None:
    assert Spread([0.9]).met(number(must=0.8)) == Met.MUST
