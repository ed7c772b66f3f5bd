"""Latencies: percentiles, and what is added up over workers."""

import pytest
from hdrh.histogram import HdrHistogram

from loadtest.latencies import Latencies

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
