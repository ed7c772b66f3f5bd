"""The registry: one connection per device, every subscriber of a principal, and the end of a sign-in."""

from __future__ import annotations

import pytest

from protocol.close_codes import CloseCode
from protocol.ids import new_id
from server.delivery.registry import ARRIVALS_KEPT, AWAITED_MAX, Registry
from tests.server.delivery.stand_in import StandIn

ANN, BO = b"a" * 16, b"b" * 16


@pytest.fixture
def registry() -> Registry:
    return Registry()


def test_attach_twice_is_attach_once(registry: Registry) -> None:
    ann = StandIn(ANN)
    registry.attach(ann)
    registry.attach(ann)
    assert (registry.subscribers_of(ANN), registry.arrivals, list(registry)) == ([ann], 1, [ann])


def test_take_over_closes_the_older_connection_of_the_device(registry: Registry) -> None:
    older = StandIn(ANN)
    newer, of_another_device = StandIn(ANN, device=older.device), StandIn(ANN)
    for subscriber in (older, of_another_device, newer):
        registry.attach(subscriber)
        registry.take_over(subscriber)
    registry.take_over(newer)
    assert [each.closed_with for each in (older, of_another_device, newer)] == [[(CloseCode.REPLACED, "")], [], []]
    assert len(registry) == 2


def test_the_connection_attached_last_wins_though_the_older_is_confirmed_after_it(registry: Registry) -> None:
    older = StandIn(ANN)
    newer = StandIn(ANN, device=older.device)
    registry.attach(older)
    registry.attach(newer)
    assert registry.take_over(newer)
    assert not registry.take_over(older)
    assert [each.closed_with for each in (older, newer)] == [[(CloseCode.REPLACED, "")], []]
    assert registry.take_over(newer)


def test_a_subscriber_that_has_ended_takes_no_device_over(registry: Registry) -> None:
    here = StandIn(ANN)
    ended = StandIn(ANN, device=here.device)
    registry.attach(here)
    registry.take_over(here)
    registry.attach(ended)
    registry.detach(ended)
    registry.take_over(ended)
    assert (here.closed_with, len(registry)) == ([], 1)


def test_the_end_of_the_older_connection_leaves_the_device_to_the_newer(registry: Registry) -> None:
    older = StandIn(ANN)
    newer = StandIn(ANN, device=older.device)
    for subscriber in (older, newer):
        registry.attach(subscriber)
        registry.take_over(subscriber)
    registry.detach(older)
    assert (registry.subscribers_of(ANN), len(registry)) == ([newer], 1)


def test_detach_leaves_nothing(registry: Registry) -> None:
    ann = StandIn(ANN)
    registry.attach(ann)
    registry.take_over(ann)
    registry.detach(ann)
    registry.detach(ann)
    assert (registry._by_principal, registry._by_device, registry.departures) == ({}, {}, 1)
    assert not registry.is_online(ANN)


def test_who_holds_the_list_of_a_principal_sees_devices_come_and_go(registry: Registry) -> None:
    phone, laptop = StandIn(ANN), StandIn(ANN)
    registry.attach(phone)
    here = registry.subscribers_of(ANN)
    registry.attach(laptop)
    registry.detach(phone)
    assert (here, registry.arrivals) == ([laptop], 1)
    registry.detach(laptop)
    assert here == []


def test_who_came_is_known_as_far_as_it_is_kept(registry: Registry) -> None:
    assert registry.find_arrived(registry.arrivals) == []
    for principal in (ANN, BO):
        registry.attach(StandIn(principal))
    assert [registry.find_arrived(since) for since in (2, 1, 0, -1)] == [[], [BO], [BO, ANN], None]
    for _ in range(ARRIVALS_KEPT):
        registry.attach(StandIn(new_id()))
    assert (len(registry.find_arrived(2) or ()), registry.find_arrived(1)) == (ARRIVALS_KEPT, None)


def test_the_end_of_a_sign_in_closes_all_its_connections_and_no_other(registry: Registry) -> None:
    sign_in = new_id()
    ended, other, stranger = StandIn(ANN, sign_in=sign_in), StandIn(ANN), StandIn(BO)
    not_yet_confirmed = StandIn(ANN, sign_in=sign_in)
    for subscriber in (ended, other, stranger, not_yet_confirmed):
        registry.attach(subscriber)
    registry.take_over(ended)
    registry.end_sign_in(ANN, sign_in, CloseCode.SIGNED_OUT, "why")
    assert ended.closed_with == not_yet_confirmed.closed_with == [(CloseCode.SIGNED_OUT, "why")]
    assert other.closed_with == stranger.closed_with == []


def test_the_end_of_a_principal_closes_all_their_connections_while_they_detach(registry: Registry) -> None:
    class Detaching(StandIn):
        def close(self, code: CloseCode, reason: str = "") -> None:
            super().close(code, reason)
            registry.detach(self)

    anns, bo = [Detaching(ANN) for _ in range(3)], StandIn(BO)
    for subscriber in (*anns, bo):
        registry.attach(subscriber)
    registry.end_principal(ANN, CloseCode.SIGNED_OUT, "")
    assert [len(each.closed_with) for each in (*anns, bo)] == [1, 1, 1, 0]
    assert list(registry) == [bo]


@pytest.mark.parametrize("others", [0, 5])
def test_the_members_present_are_found_from_either_side(registry: Registry, others: int) -> None:
    ann = StandIn(ANN)
    registry.attach(ann)
    for _ in range(others):
        registry.attach(StandIn(new_id()))
    assert list(registry.find_present({ANN: 1, BO: 1})) == [(ANN, [ann])]


def test_of_too_many_connections_that_do_not_sync_the_oldest_of_the_busiest_sign_in_is_closed(
    registry: Registry,
) -> None:
    owner = StandIn(ANN)
    registry.await_sync(owner)
    many = [StandIn(ANN, sign_in=BO) for _ in range(AWAITED_MAX + 1)]
    for subscriber in many:
        registry.await_sync(subscriber)
    assert [each.closed_with for each in many[:3]] == [[(CloseCode.RATE_LIMITED, "")]] * 2 + [[]]
    assert [each.closed_with for each in [owner, *many[2:]]] == [[]] * AWAITED_MAX


def test_connections_that_have_synced_or_ended_are_awaited_no_longer(registry: Registry) -> None:
    for _ in range(AWAITED_MAX):
        synced, ended = StandIn(ANN), StandIn(ANN)
        for subscriber in (synced, ended):
            registry.await_sync(subscriber)
        registry.attach(synced)
        registry.take_over(synced)
        registry.detach(ended)
        assert (synced.closed_with, ended.closed_with) == ([], [])
    assert registry._awaited == {}
