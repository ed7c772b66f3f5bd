"""The number and the rate of connections, in all and per address, of one process and of several workers."""

import os
from collections.abc import Callable, Iterator

import pytest

from server.config.settings import GatewaySettings
from server.gateway import connection_counts
from server.gateway.connect_limits import ConnectLimits, ConnectRefused
from server.gateway.connection_counts import ConnectionCounts, LocalCounts
from server.gateway.shared_counts import SharedCounts, create_shared_memory
from tests.support.clock import ManualClock

Limits = Callable[..., ConnectLimits]


@pytest.fixture
def shared_memory() -> Iterator[int]:
    """Memory for the counts of two workers."""
    fd = create_shared_memory(2)
    yield fd
    os.close(fd)


@pytest.fixture(params=["one process", "a worker"])
def limits(request: pytest.FixtureRequest, clock: ManualClock, shared_memory: int) -> Limits:
    """Makes limits with settings of the test; 10.0.0.1 is a proxy."""

    def make(**changes: float) -> ConnectLimits:
        alone = request.param == "one process"
        return limited(clock, LocalCounts() if alone else SharedCounts(shared_memory, workers=2, column=1), **changes)

    return make


def limited(clock: ManualClock, counts: ConnectionCounts, **changes: float) -> ConnectLimits:
    settings = GatewaySettings(**changes)  # type: ignore[arg-type]
    return ConnectLimits(settings, clock, exempt=lambda address: address == "10.0.0.1", counts=counts)


def status(refused: ConnectRefused | None) -> int:
    return 0 if refused is None else refused.status


def test_a_full_node_refuses_until_a_connection_closes(limits: Limits) -> None:
    some = limits(connections_max=2)
    assert [status(some.open()) for _ in range(3)] == [0, 0, 503]
    some.close()
    assert [status(some.open()) for _ in range(2)] == [0, 503]


def test_an_address_has_a_limit_of_its_own(limits: Limits) -> None:
    some = limits(connections_per_address_max=2)
    assert [status(some.claim("192.0.2.1")) for _ in range(3)] == [0, 0, 429]
    assert status(some.claim("192.0.2.2")) == 0
    some.release("192.0.2.1")
    assert status(some.claim("192.0.2.1")) == 0


def test_a_released_address_leaves_nothing_behind(clock: ManualClock) -> None:
    counts = LocalCounts()
    some = limited(clock, counts)
    some.claim("192.0.2.1")
    some.release("192.0.2.1")
    assert counts._counts == {}


def test_a_network_of_ipv6_counts_as_one_address(limits: Limits) -> None:
    some = limits(connections_per_address_max=1)
    answers = [status(some.claim(address)) for address in ("2001:db8::1", "2001:db8::ffff", "2001:db8:0:1::1")]
    assert answers == [0, 429, 0]


def test_an_address_has_a_burst_and_a_rate(limits: Limits, clock: ManualClock) -> None:
    some = limits(connects_per_address_per_s=3)
    assert [status(some.claim("192.0.2.1")) for _ in range(4)] == [0, 0, 0, 429]
    refused = some.claim("192.0.2.1")
    assert refused is not None
    assert refused.retry_after_s == 1
    assert status(some.claim("192.0.2.2")) == 0
    clock.advance(1 / 3)
    assert [status(some.claim("192.0.2.1")) for _ in range(2)] == [0, 429]
    clock.advance(100)
    assert [status(some.claim("192.0.2.1")) for _ in range(4)] == [0, 0, 0, 429]


def test_a_rate_below_one_per_second_still_accepts_one(limits: Limits, clock: ManualClock) -> None:
    some = limits(connects_per_address_per_s=0.1)
    assert status(some.claim("192.0.2.1")) == 0
    refused = some.claim("192.0.2.1")
    assert refused is not None
    assert refused.retry_after_s == 10
    clock.advance(10)
    assert status(some.claim("192.0.2.1")) == 0


def test_a_refused_address_does_not_use_up_the_rate_of_the_node(limits: Limits) -> None:
    some = limits(connects_per_s=4, connects_per_address_per_s=2)
    assert [status(some.claim("192.0.2.1")) for _ in range(10)] == [0, 0] + [429] * 8
    assert [status(some.claim(f"192.0.2.{number}")) for number in range(2, 5)] == [0, 0, 503]


def test_a_proxy_is_limited_by_the_node_only(limits: Limits) -> None:
    some = limits(connections_per_address_max=1, connects_per_address_per_s=1, connects_per_s=3)
    assert [status(some.claim("10.0.0.1")) for _ in range(4)] == [0, 0, 0, 503]
    some.release("10.0.0.1")


def test_the_table_of_addresses_is_bounded(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_counts, "_NETWORKS_MAX", 10)
    counts = LocalCounts()
    some = limited(clock, counts)
    for number in range(15):
        some.claim(f"192.0.2.{number}")
    assert len(counts._full_at) == 10
    clock.advance(5)
    some.claim("192.0.2.99")
    assert list(counts._full_at) == ["192.0.2.99"]


def test_connections_that_end_as_strangers_count_as_many(limits: Limits, clock: ManualClock) -> None:
    some = limits(connects_per_address_per_s=200)
    for _ in range(10):
        assert status(some.claim("192.0.2.1")) == 0
        some.release("192.0.2.1")
        some.charge_stranger("192.0.2.1")
    assert (status(some.claim("192.0.2.1")), status(some.claim("192.0.2.2"))) == (429, 0)
    clock.advance(0.1)
    assert status(some.claim("192.0.2.1")) == 0


def test_what_strangers_owe_is_bounded(limits: Limits, clock: ManualClock) -> None:
    some = limits(connects_per_address_per_s=200)
    for _ in range(1000):
        some.charge_stranger("192.0.2.1")
    assert status(some.claim("192.0.2.1")) == 429
    clock.advance(2.0)
    assert status(some.claim("192.0.2.1")) == 0


def test_strangers_behind_a_proxy_are_not_charged_to_it(limits: Limits) -> None:
    some = limits(connects_per_address_per_s=1)
    for _ in range(3):
        some.charge_stranger("10.0.0.1")
    assert status(some.claim("10.0.0.1")) == 0


def test_workers_count_connections_and_rates_together(clock: ManualClock, shared_memory: int) -> None:
    settings = {"connections_max": 4, "connections_per_address_max": 2, "connects_per_address_per_s": 3.0}
    one, other = (limited(clock, SharedCounts(shared_memory, workers=2, column=n), **settings) for n in range(2))
    assert [status(some.open()) for some in (one, other, one, other, one, other)] == [0, 0, 0, 0, 503, 503]
    assert [status(some.claim("192.0.2.1")) for some in (one, other, one, other)] == [0, 0, 429, 429]
    one.release("192.0.2.1")
    assert status(other.claim("192.0.2.1")) == 0
    other.release("192.0.2.1")
    assert status(one.claim("192.0.2.1")) == 429  # the fourth within a second
    clock.advance(1.0)
    other.charge_stranger("192.0.2.1")
    assert status(one.claim("192.0.2.1")) == 429
    assert status(one.claim("192.0.2.2")) == 0


def test_what_a_dead_worker_had_open_is_forgotten_and_what_others_have_is_not(
    clock: ManualClock, shared_memory: int
) -> None:
    dead, lives = (SharedCounts(shared_memory, workers=2, column=n) for n in range(2))
    for counts in (dead, lives, lives):
        some = limited(clock, counts)
        some.open()
        some.claim("192.0.2.1")
    dead.clear()
    assert (lives.total(), lives.of("192.0.2.1")) == (2, 2)


def test_quiet_addresses_are_not_taken_for_busy_ones(shared_memory: int) -> None:
    counts = SharedCounts(shared_memory, workers=2, column=0)
    for number in range(20):
        counts.change(f"192.0.2.{number}", 1000)
    taken = [number for number in range(20_000) if counts.of(f"10.0.{number // 256}.{number % 256}") >= 1000]
    assert len(taken) <= 1  # by chance, one time in ten thousand
