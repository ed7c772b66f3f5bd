"""The rows name what there is, and every run fits its scenario."""

import pytest

from loadtest.bench.bench_rows import ROWS, RUNS
from loadtest.bench.rounds import BenchPlan, scenario_of
from loadtest.run_result import METRICS
from loadtest.scenario import Scenario, TalkLoad

NUMBERS = [number for row in ROWS for number in row.numbers]


def test_every_number_names_a_metric_and_every_run_is_read() -> None:
    assert [number.metric for number in NUMBERS if number.metric not in METRICS] == []
    assert {name for row in ROWS for name in row.runs} == set(RUNS)
    assert [row.number for row in ROWS] == list(range(1, len(ROWS) + 1))


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("name", RUNS)
def test_a_run_is_its_scenario_with_what_differs(name: str, quick: bool) -> None:
    run = RUNS[name]
    chosen = scenario_of(run, BenchPlan(ROWS, 1, 0, quick=quick))
    assert isinstance(chosen, Scenario)
    assert not chosen.thresholds
    if quick:
        assert (chosen.people, chosen.seconds, chosen.workers) == (20, 0.3, 1)
    else:
        changed = {**{key: getattr(chosen, key) for key in run.changes}}
        assert changed == run.changes
        assert {key: getattr(chosen.load, key) for key in run.load} == run.load


def test_a_quick_run_has_fewer_writers_than_people_in_a_dialog() -> None:
    load = scenario_of(RUNS["rooms"], BenchPlan(ROWS, 1, 0, quick=True)).load
    assert isinstance(load, TalkLoad)
    assert 1 <= load.writers < load.dialog_size <= 20


def test_seconds_replace_those_of_the_scenario() -> None:
    assert scenario_of(RUNS["direct"], BenchPlan(ROWS, 1, 0, seconds=2.5)).seconds == 2.5


def test_every_round_has_every_run_once_in_an_order_that_the_seed_repeats() -> None:
    plan = BenchPlan(ROWS, 5, seed=7)
    orders = list(plan.orders())
    assert all(sorted(order) == sorted(RUNS) for order in orders)
    assert len({tuple(order) for order in orders}) == 5
    assert orders == list(BenchPlan(ROWS, 5, seed=7).orders()) != list(BenchPlan(ROWS, 5, seed=8).orders())
