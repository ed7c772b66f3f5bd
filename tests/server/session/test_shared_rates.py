"""Rates of sessions at several nodes: a bucket is left at one node and found at the next."""

from __future__ import annotations

import asyncio

import pytest

from protocol.ids import new_id
from server.config.settings import SessionSettings
from server.session import shared_rates as shared_rates_module
from server.session.rates import SessionRates
from server.session.shared_rates import SharedRates
from storage.local.rates import LocalBuckets
from tests.support.clock import ManualClock
from tests.support.turns import until

pytestmark = pytest.mark.anyio

PHONE, TABLET, ANN = new_id(), new_id(), new_id()


class Node:
    """The rates of one node: ten sends at once, then one a second; those of a person are twice as much."""

    def __init__(self, store: LocalBuckets, clock: ManualClock) -> None:
        self.rates = SessionRates(
            SessionSettings(sends_per_s=1.0, sends_burst=10, principal_rate_factor=2.0), shared=True
        )
        self.shared = SharedRates(store, self.rates, clock)
        self._clock = clock

    def send(self, device: bytes = PHONE) -> float:
        return self.rates.sends.spend(device, ANN, self._clock.monotonic())

    def send_all(self, device: bytes = PHONE) -> int:
        """Send until there is to wait; how many were sent."""
        sent = 0
        while not self.send(device):
            sent += 1
        return sent


@pytest.fixture
def store(clock: ManualClock) -> LocalBuckets:
    return LocalBuckets(clock.monotonic)


@pytest.fixture
def nodes(store: LocalBuckets, clock: ManualClock) -> tuple[Node, Node]:
    return Node(store, clock), Node(store, clock)


async def test_a_device_that_goes_to_another_node_goes_on_with_its_bucket(
    nodes: tuple[Node, Node], clock: ManualClock
) -> None:
    one, two = nodes
    assert one.send_all() == 10
    await one.shared.tell()
    await two.shared.learn(PHONE, ANN)
    assert two.send() == pytest.approx(1)
    clock.advance(3)
    assert two.send_all() == 3


async def test_the_devices_of_a_person_share_a_bucket_over_nodes_within_a_second(nodes: tuple[Node, Node]) -> None:
    one, two = nodes
    await two.shared.learn(TABLET, ANN)
    assert (one.send_all(PHONE), two.send_all(TABLET)) == (10, 10)
    for node in (one, two, one):
        node.send(new_id())
        await node.shared.tell()
    assert one.send(new_id()) > 0
    assert two.send(new_id()) > 0


async def test_what_is_told_twice_is_not_taken_twice(nodes: tuple[Node, Node]) -> None:
    one, two = nodes
    for _ in range(5):
        one.send()
    for _ in range(3):
        await one.shared.tell()
    await two.shared.learn(PHONE, ANN)
    assert two.send_all() == 5


async def test_who_goes_from_node_to_node_has_one_rate_however_little_is_taken_of_each(
    store: LocalBuckets, clock: ManualClock
) -> None:
    nodes = [Node(store, clock) for _ in range(40)]
    sent = 0
    for visit in range(240):
        node = nodes[visit % len(nodes)]
        await node.shared.learn(PHONE, ANN)
        sent += sum(not node.send() for _ in range(2))
        node.shared.leave(PHONE, ANN)
        await node.shared.tell()
        clock.advance(0.1)
    assert 24 <= sent <= 24 + 10


async def test_what_was_filled_again_before_it_was_told_is_taken_from_nobody(
    nodes: tuple[Node, Node], clock: ManualClock
) -> None:
    one, two = nodes
    one.send_all()
    clock.advance(3)
    await one.shared.tell()
    await two.shared.learn(PHONE, ANN)
    assert two.send_all() == 3


async def test_of_a_bucket_that_is_nearly_full_nobody_is_told(nodes: tuple[Node, Node], store: LocalBuckets) -> None:
    one, _ = nodes
    one.send()
    await one.shared.tell()
    assert store._full_at == {}


async def test_what_others_took_keeps_nobody_longer_than_a_minute(
    nodes: tuple[Node, Node], store: LocalBuckets, clock: ManualClock
) -> None:
    one, _ = nodes
    await store.add_taken([(b"s" + PHONE, 86_400.0, 86_400.0)])
    await one.shared.learn(PHONE, ANN)
    assert one.send() == pytest.approx(61)
    for _ in range(60):
        clock.advance(1)
        assert one.send() > 0
        assert one.send(TABLET) == 0  # generations of the table pass
    clock.advance(1)
    assert one.send() == 0


@pytest.mark.parametrize("count", [1, 2, 8])
async def test_in_the_long_run_the_devices_of_a_person_have_one_rate_at_however_many_nodes(
    store: LocalBuckets, clock: ManualClock, count: int
) -> None:
    nodes = [(Node(store, clock), [new_id() for _ in range(5)]) for _ in range(count)]
    sent = 0
    for _ in range(120):
        for node, devices in nodes:
            sent += sum(node.send_all(device) for device in devices)
        clock.advance(1)
        for node, _ in nodes:
            await node.shared.tell()
    a_bucket, longest_s = 20, 70
    assert 2 * 120 <= sent <= 2 * 120 + count * a_bucket
    assert max(store._full_at.values()) - clock.monotonic() <= longest_s


async def test_while_the_store_is_away_each_node_judges_alone_and_keeps_nothing_for_later(
    nodes: tuple[Node, Node], store: LocalBuckets
) -> None:
    one, two = nodes
    store.away = True
    assert one.send_all() == 10
    await one.shared.tell()
    await two.shared.learn(PHONE, ANN)
    assert two.send_all() == 10
    store.away = False
    await one.shared.tell()
    assert store._full_at == {}


async def test_a_session_that_ends_is_told_at_once(
    nodes: tuple[Node, Node], store: LocalBuckets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_rates_module, "INTERVAL_S", 3600.0)
    one, _ = nodes
    one.send_all()
    run = asyncio.ensure_future(one.shared.run())
    one.shared.leave(PHONE, ANN)
    await until(lambda: store._full_at)
    run.cancel()
