"""Latencies: percentiles, and what is added up over workers."""

import pytest
from hdrh.histogram import HdrHistogram

from loadtest.latencies import Latencies, add_counts, percentile_ms

MS = 1_000_000


def test_percentiles_are_within_a_thousandth() -> None:
    latencies = Latencies()
    for ms in range(1, 10_001):
        latencies.record(ms * MS)
    found = latencies.percentiles()
    assert found is not None
    assert found.count == 10_000
    assert (found.p50_ms, found.p90_ms, found.p99_ms) == pytest.approx((5_000, 9_000, 9_900), rel=0.002)
    assert (found.p999_ms, found.max_ms) == pytest.approx((9_990, 10_000), rel=0.002)


def test_of_nothing_there_are_no_percentiles() -> None:
    assert Latencies().percentiles() is None


def test_what_others_recorded_is_added() -> None:
    one, other = Latencies(), Latencies()
    one.record(MS)
    other.record(3 * MS)
    one.merge(other.encode())
    found = one.percentiles()
    assert found is not None
    assert found.count == 2
    assert found.max_ms == pytest.approx(3, rel=0.001)


def test_a_result_keeps_the_whole_histogram() -> None:
    latencies = Latencies()
    latencies.record(7 * MS)
    found = latencies.percentiles()
    assert found is not None
    assert HdrHistogram.decode(found.histogram).get_max_value() == pytest.approx(7_000, rel=0.001)


@pytest.mark.parametrize(("duration_ns", "ms"), [(0, 0.001), (10**18, 3_600_000)])
def test_what_is_out_of_range_counts_as_the_end_of_the_range(duration_ns: int, ms: float) -> None:
    latencies = Latencies()
    latencies.record(duration_ns)
    found = latencies.percentiles()
    assert found is not None
    assert found.max_ms == pytest.approx(ms, rel=0.001)


def test_what_is_new_is_taken_once_and_stays_in_the_whole() -> None:
    latencies = Latencies()
    latencies.record(2 * MS)
    assert latencies.take_new() == {2_000: 1}
    latencies.record(MS)
    assert latencies.take_new() == {1_000: 1}
    assert latencies.take_new() == {}
    found = latencies.percentiles()
    assert found is not None
    assert found.count == 2


def test_percentiles_of_counts_are_those_of_all_of_them() -> None:
    counts = {1_000: 90}
    add_counts(counts, {9_000: 9, 1_000: 0, 50_000: 1})
    assert [percentile_ms(counts, percent) for percent in (50, 90, 99, 100)] == [1.0, 1.0, 9.0, 50.0]
    assert percentile_ms({}, 50) is None
