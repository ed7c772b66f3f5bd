"""Thresholds, from the file of a scenario to the verdict."""

from pathlib import Path

import pytest

from loadtest.run_result import METRICS
from loadtest.scenario import ScenarioError, Threshold, load
from loadtest.thresholds import with_thresholds
from tests.loadtest.results import result

SCENARIO = 'about = "x"\npeople = 2\n[load]\nkind = "talk"\n[thresholds]\n'


def test_a_run_is_good_while_every_threshold_holds_at_its_bound_too() -> None:
    checked = with_thresholds(result(), {"acked_per_s": Threshold(at_least=100.0, at_most=100.0)})
    assert checked.good
    assert checked.checked[0].value == 100.0


@pytest.mark.parametrize("missed", [Threshold(at_most=99.0), Threshold(at_least=101.0)])
def test_a_run_is_not_good_beyond_a_bound(missed: Threshold) -> None:
    assert not with_thresholds(result(), {"acked_per_s": missed}).good


def test_a_threshold_on_what_was_not_measured_is_missed() -> None:
    assert not with_thresholds(result(), {"connect_p99_ms": Threshold(at_most=1e9)}).good


def test_a_scenario_that_names_an_unknown_number_is_refused_with_those_that_are_known(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(SCENARIO + "acked_per_minute = { at_least = 1 }\n")
    with pytest.raises(ScenarioError, match="acked_per_minute") as refused:
        load(str(path))
    assert all(name in str(refused.value) for name in METRICS)


def test_a_threshold_that_nothing_could_break_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(SCENARIO + "acked_per_s = {}\n")
    with pytest.raises(ScenarioError, match="at_most, at_least, or both"):
        load(str(path))
