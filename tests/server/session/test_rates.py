"""Rates of devices and principals: what is spent is kept, what is full again is forgotten, and the table is bounded."""

from __future__ import annotations

import pytest

from server.config.settings import SessionSettings
from server.session.rates import BucketTable, SessionRates, SharedRate

ANN, BO = b"a" * 16, b"b" * 16


def device(number: int) -> bytes:
    return number.to_bytes(16, "big")


def passed(rate: SharedRate, devices: int, principal: bytes, now: float) -> int:
    """How many of a thousand attempts pass, spread over so many devices of a principal."""
    return sum(not rate.spend(principal[:8] + device(each % devices)[8:], principal, now) for each in range(1000))


def take(table: BucketTable, key: bytes, now: float, cost: float = 1.0) -> float:
    wait_s, full_at = table.judge(key, now, cost)
    if not wait_s:
        table.keep(key, full_at, now)
    return wait_s


@pytest.mark.parametrize("start", [0.0, 1e7])
def test_a_device_has_its_burst_and_then_its_rate(start: float) -> None:
    rate = SharedRate(10.0, 20, 3.0)
    assert passed(rate, 1, ANN, start) == 20
    assert passed(rate, 1, ANN, start + 0.5) == 5
    assert passed(rate, 1, ANN, start + 100) == 20


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


def test_a_higher_cost_waits_longer_but_a_full_bucket_pays_for_anything() -> None:
    table = BucketTable(10.0, 3)
    assert take(table, ANN, 100.0, 2) == 0.0
    assert take(table, ANN, 100.0, 2) == pytest.approx(0.1)
    assert take(table, ANN, 101.0, 1000) == 0.0


def test_a_bucket_that_is_full_again_is_forgotten_and_no_other() -> None:
    table = BucketTable(1.0, 10)
    for second in range(200):
        assert take(table, device(second), float(second), 10) == 0.0
        for before in range(max(0, second - 9), second):
            assert take(table, device(before), float(second), 10) > 0.0
        assert len(table) <= 22


def test_the_table_is_bounded_and_the_latest_stay() -> None:
    table = BucketTable(1.0, 10, keys_max=100)
    for number in range(10_000):
        take(table, device(number), 5.0, 10)
        assert len(table) <= 100
    assert all(take(table, device(number), 5.0) for number in range(9_960, 10_000))


def test_twenty_bad_messages_are_forgiven_and_then_one_every_ten_seconds() -> None:
    rates = SessionRates(SessionSettings())
    assert sum(rates.forgives(ANN, 0.0) for _ in range(50)) == 20
    assert sum(rates.forgives(ANN, 60.0) for _ in range(50)) == 6
    assert rates.forgives(BO, 60.0)
