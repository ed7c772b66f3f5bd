"""Token buckets: a burst, then the rate, and nothing is taken by a refusal."""

import itertools

import pytest

from server.token_bucket import take_tokens


class Bucket:
    """One bucket, from full."""

    def __init__(self, per_s: float, burst: float) -> None:
        self.interval_s, self.burst, self.full_at = 1.0 / per_s, burst, 0.0

    def spend(self, now: float, cost: float = 1.0) -> float:
        """The wait; 0 if the tokens were taken."""
        wait_s, self.full_at = take_tokens(self.full_at, now, interval_s=self.interval_s, burst=self.burst, cost=cost)
        return wait_s


def test_a_burst_passes_and_the_next_waits_one_interval() -> None:
    bucket = Bucket(per_s=10.0, burst=3)
    assert [bucket.spend(100.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert bucket.spend(100.0) == pytest.approx(0.1)
    assert bucket.spend(100.1) == 0.0


def test_a_higher_cost_waits_longer_but_a_full_bucket_pays_for_anything() -> None:
    bucket = Bucket(per_s=10.0, burst=3)
    assert bucket.spend(100.0, 2) == 0.0
    assert bucket.spend(100.0, 2) == pytest.approx(0.1)
    assert bucket.spend(101.0, 1000) == 0.0
    assert bucket.spend(101.0) == pytest.approx(0.1)


def test_a_refusal_takes_nothing() -> None:
    bucket = Bucket(per_s=1.0, burst=1)
    assert bucket.spend(0.0) == 0.0
    assert [bucket.spend(0.5) for _ in range(3)] == [0.5] * 3
    assert bucket.spend(1.0) == 0.0


@pytest.mark.parametrize("start", [0.0, 1e7])
def test_the_long_run_is_per_s(start: float) -> None:
    bucket = Bucket(per_s=5.0, burst=2)
    passed = sum(bucket.spend(start + tick / 100) == 0.0 for tick in range(1000))
    assert passed == 5 * 10 + 1


def test_a_bucket_saves_up_no_more_than_its_burst() -> None:
    bucket = Bucket(per_s=10.0, burst=3)
    for now in (0.0, 1000.0):
        assert [bucket.spend(now) > 0 for _ in range(4)] == [False, False, False, True]


@pytest.mark.parametrize("interval_s", [1 / 3, 0.1, 1 / 7, 720.0])
def test_after_exactly_the_wait_the_tokens_are_there(interval_s: float) -> None:
    now, full_at = 12_345.678, 0.0
    for _ in range(100):
        wait_s, full_at = take_tokens(full_at, now, interval_s=interval_s, burst=2)
        if wait_s:
            now += wait_s
            wait_s, full_at = take_tokens(full_at, now, interval_s=interval_s, burst=2)
        assert wait_s == 0.0


def test_a_burst_may_be_a_fraction() -> None:
    full_at, waits = 0.0, []
    for _ in itertools.repeat(None, 4):
        wait_s, full_at = take_tokens(full_at, 0.0, interval_s=1.0, burst=2.5)
        waits.append(wait_s)
    assert waits == [0.0, 0.0, 0.5, 0.5]
