"""The number and the rate of connections, per node and per address, on a clock that the test advances."""

import pytest

from server.config.settings import GatewaySettings
from server.gateway import connect_limits
from server.gateway.connect_limits import ConnectLimits, ConnectRefused
from tests.support.clock import ManualClock


def limits(clock: ManualClock, **changes: float) -> ConnectLimits:
    settings = GatewaySettings(**changes)  # type: ignore[arg-type]
    return ConnectLimits(settings, clock, exempt=lambda address: address == "10.0.0.1")


def status(refused: ConnectRefused | None) -> int:
    return 0 if refused is None else refused.status


def test_a_full_node_refuses_until_a_connection_closes(clock: ManualClock) -> None:
    some = limits(clock, connections_max=2)
    assert [status(some.open()) for _ in range(3)] == [0, 0, 503]
    some.close()
    assert status(some.open()) == 0
    assert some.count == 2


def test_an_address_has_a_limit_of_its_own(clock: ManualClock) -> None:
    some = limits(clock, connections_per_address_max=2)
    assert [status(some.claim("192.0.2.1")) for _ in range(3)] == [0, 0, 429]
    assert status(some.claim("192.0.2.2")) == 0
    some.release("192.0.2.1")
    assert status(some.claim("192.0.2.1")) == 0


def test_a_released_address_leaves_nothing_behind(clock: ManualClock) -> None:
    some = limits(clock)
    some.claim("192.0.2.1")
    some.release("192.0.2.1")
    assert some._counts == {}


def test_a_network_of_ipv6_counts_as_one_address(clock: ManualClock) -> None:
    some = limits(clock, connections_per_address_max=1)
    answers = [status(some.claim(address)) for address in ("2001:db8::1", "2001:db8::ffff", "2001:db8:0:1::1")]
    assert answers == [0, 429, 0]


def test_an_address_has_a_burst_and_a_rate(clock: ManualClock) -> None:
    some = limits(clock, connects_per_address_per_s=3)
    assert [status(some.claim("192.0.2.1")) for _ in range(4)] == [0, 0, 0, 429]
    refused = some.claim("192.0.2.1")
    assert refused is not None
    assert refused.retry_after_s == 1
    assert status(some.claim("192.0.2.2")) == 0
    clock.advance(1 / 3)
    assert [status(some.claim("192.0.2.1")) for _ in range(2)] == [0, 429]
    clock.advance(100)
    assert [status(some.claim("192.0.2.1")) for _ in range(4)] == [0, 0, 0, 429]


def test_a_rate_below_one_per_second_still_accepts_one(clock: ManualClock) -> None:
    some = limits(clock, connects_per_address_per_s=0.1)
    assert status(some.claim("192.0.2.1")) == 0
    refused = some.claim("192.0.2.1")
    assert refused is not None
    assert refused.retry_after_s == 10
    clock.advance(10)
    assert status(some.claim("192.0.2.1")) == 0


def test_a_refused_address_does_not_use_up_the_rate_of_the_node(clock: ManualClock) -> None:
    some = limits(clock, connects_per_s=4, connects_per_address_per_s=2)
    assert [status(some.claim("192.0.2.1")) for _ in range(10)] == [0, 0] + [429] * 8
    assert [status(some.claim(f"192.0.2.{number}")) for number in range(2, 5)] == [0, 0, 503]


def test_a_proxy_is_limited_by_the_node_only(clock: ManualClock) -> None:
    some = limits(clock, connections_per_address_max=1, connects_per_address_per_s=1, connects_per_s=3)
    assert [status(some.claim("10.0.0.1")) for _ in range(4)] == [0, 0, 0, 503]
    some.release("10.0.0.1")


def test_the_table_of_addresses_is_bounded(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect_limits, "_ADDRESSES_MAX", 10)
    some = limits(clock)
    for number in range(15):
        some.claim(f"192.0.2.{number}")
    assert len(some._full_at) == 10
    clock.advance(5)
    some.claim("192.0.2.99")
    assert list(some._full_at) == ["192.0.2.99"]


def test_connections_that_end_as_strangers_count_as_many(clock: ManualClock) -> None:
    some = limits(clock, connects_per_address_per_s=200)
    for _ in range(10):
        assert status(some.claim("192.0.2.1")) == 0
        some.release("192.0.2.1")
        some.charge_stranger("192.0.2.1")
    assert (status(some.claim("192.0.2.1")), status(some.claim("192.0.2.2"))) == (429, 0)
    clock.advance(0.1)
    assert status(some.claim("192.0.2.1")) == 0


def test_what_strangers_owe_is_bounded(clock: ManualClock) -> None:
    some = limits(clock, connects_per_address_per_s=200)
    for _ in range(1000):
        some.charge_stranger("192.0.2.1")
    assert status(some.claim("192.0.2.1")) == 429
    clock.advance(2.0)
    assert status(some.claim("192.0.2.1")) == 0


def test_strangers_behind_a_proxy_are_not_charged_to_it(clock: ManualClock) -> None:
    some = limits(clock)
    some.charge_stranger("10.0.0.1")
    assert some._full_at == {}
