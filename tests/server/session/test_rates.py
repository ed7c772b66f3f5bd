"""A rate with a burst."""

from server.session.rates import Rate


def test_a_burst_passes_and_the_next_waits_one_interval() -> None:
    rate = Rate(per_s=10.0, burst=3)
    assert [rate.spend(100.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert round(rate.spend(100.0), 6) == 0.1
    assert rate.spend(100.1) == 0.0


def test_what_costs_more_waits_longer_but_a_full_burst_buys_anything() -> None:
    rate = Rate(per_s=10.0, burst=3)
    assert rate.spend(100.0, 2) == 0.0
    assert round(rate.spend(100.0, 2), 6) == 0.1
    assert rate.spend(101.0, 1000) == 0.0
    assert round(rate.spend(101.0), 6) == 0.1


def test_a_refusal_takes_nothing() -> None:
    rate = Rate(per_s=1.0, burst=1)
    assert rate.spend(0.0) == 0.0
    assert [rate.spend(0.5) for _ in range(3)] == [0.5] * 3
    assert rate.spend(1.0) == 0.0


def test_the_long_run_is_per_s() -> None:
    rate = Rate(per_s=5.0, burst=2)
    passed = sum(rate.spend(tick / 100) == 0.0 for tick in range(1000))
    assert passed == 5 * 10 + 1
