"""Percentiles and medians, and what a table makes of them."""

from loadtest.measure_report import Measurement, as_text
from loadtest.measure_server import Usage
from loadtest.measure_stage import Latency, Stage, percentiles

MS = 1_000_000


def stage(done: int, latency: Latency | None = None) -> Stage:
    return Stage(seconds=2.0, done=done, usage=Usage(1.0, 3.0), load_s=0.5, latency=latency)


def test_percentiles_are_values_that_were_seen_whatever_their_order() -> None:
    sample = [i * MS for i in range(999, -1, -1)]
    assert percentiles(sample) == Latency(500.0, 990.0, 999.0)


def test_of_one_value_every_percentile_is_that_value() -> None:
    assert percentiles([7 * MS]) == Latency(7.0, 7.0, 7.0)


def test_of_nothing_there_are_no_percentiles() -> None:
    assert percentiles([]) is None


def test_usage_since_an_earlier_one_is_the_difference() -> None:
    assert Usage(5.0, 7.0).since(Usage(1.0, 2.0)) == Usage(4.0, 5.0)


def test_every_column_is_the_median_of_its_own_rounds() -> None:
    report = Measurement(rounds=3, seconds=2.0)
    for each in [stage(100, Latency(1, 30, 5)), stage(400, Latency(2, 10, 9)), stage(200, Latency(3, 20, 7))]:
        report.add("direct", each)
    row = as_text(report).splitlines()[1].split()
    assert row == ["direct", "100", "50", "200", "67", "2.0", "20.0", "7.0", "25", "%"]


def test_the_table_divides_by_cpu_seconds_together_and_of_each_alone() -> None:
    report = Measurement(rounds=1, seconds=2.0)
    report.add("direct", stage(1200, Latency(1.25, 2.0, 3.0)))
    report.add("reconnects", stage(80))
    lines = [line.split() for line in as_text(report).splitlines()]
    assert lines[1] == ["direct", "600", "300", "1,200", "400", "1.2", "2.0", "3.0", "25", "%"]
    assert lines[2] == ["reconnects", "40", "20", "80", "27", "25", "%"]
