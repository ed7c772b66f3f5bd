"""Rates of devices and principals: what is spent is kept, what is full again is forgotten, and the table is bounded."""

from __future__ import annotations

import pytest

from server.session.rates import SharedRate

ANN, BO = b"a" * 16, b"b" * 16


def device(number: int, principal: bytes = ANN) -> bytes:
    return principal[:8] + number.to_bytes(8, "big")


def passed(rate: SharedRate, devices: int, principal: bytes, now: float) -> int:
    """How many of a thousand attempts pass, spread over so many devices of a principal."""
    return sum(not rate.spend(device(each % devices, principal), principal, now) for each in range(1000))


@pytest.mark.parametrize("start", [0.0, 1e7])
def test_a_device_has_its_burst_and_then_its_rate(start: float) -> None:
    rate = SharedRate(10.0, 20, 3.0)
    assert passed(rate, 1, ANN, start) == 20
    assert passed(rate, 1, ANN, start + 0.5) == 5
    assert passed(rate, 1, ANN, start + 100) == 20


def test_the_long_run_is_per_s() -> None:
    rate = SharedRate(5.0, 2, 3.0)
    assert sum(not rate.spend(device(1), ANN, 1e7 + tick / 100) for tick in range(1000)) == 5 * 10 + 1


def test_the_devices_of_a_principal_share_what_three_of_them_may_use() -> None:
    rate = SharedRate(10.0, 20, 3.0)
    assert passed(rate, 50, ANN, 0.0) == 60
    assert passed(rate, 50, ANN, 1.0) == 30
    assert passed(rate, 1, BO, 1.0) == 20


def test_what_a_principal_may_not_use_costs_its_device_nothing() -> None:
    rate = SharedRate(10.0, 20, 1.0)
    assert passed(rate, 1, ANN, 0.0) == 20
    assert rate.spend(device(7), ANN, 0.0) == pytest.approx(0.1)
    assert sum(not rate.spend(device(7), BO, 0.0) for _ in range(30)) == 20


def test_a_refusal_takes_nothing_and_says_how_long_to_wait() -> None:
    rate = SharedRate(1.0, 1, 3.0)
    assert rate.spend(device(1), ANN, 10.0) == 0.0
    assert [rate.spend(device(1), ANN, 10.5) for _ in range(3)] == [0.5] * 3
    assert rate.spend(device(1), ANN, 11.0) == 0.0


def test_a_higher_cost_waits_longer_but_a_full_bucket_pays_for_anything() -> None:
    rate = SharedRate(10.0, 3, 3.0)
    assert rate.spend(device(1), ANN, 100.0, 2) == 0.0
    assert rate.spend(device(1), ANN, 100.0, 2) == pytest.approx(0.1)
    assert rate.spend(device(1), ANN, 101.0, 1000) == 0.0


def test_a_bucket_that_is_full_again_is_forgotten_and_no_other() -> None:
    rate = SharedRate(1.0, 10, 1e9)
    for second in range(200):
        assert rate.spend(device(second), ANN, float(second), 10) == 0.0
        for before in range(max(0, second - 9), second):
            assert rate.spend(device(before), ANN, float(second), 10) > 0.0
        assert len(rate) <= 24


def test_the_table_is_bounded_and_the_latest_stay() -> None:
    rate = SharedRate(1.0, 10, 1e9, keys_max=100)
    for number in range(10_000):
        assert rate.spend(device(number), ANN, 5.0, 10) == 0.0
        assert len(rate) <= 102
    assert all(rate.spend(device(number), ANN, 5.0) for number in range(9_960, 10_000))
