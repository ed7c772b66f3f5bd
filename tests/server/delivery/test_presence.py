"""Presence: pushed to followers only, and nothing is kept about those who follow nobody."""

from __future__ import annotations

import pytest

from protocol.events import PresenceChanged
from server.delivery.presence import Presence
from server.delivery.registry import Registry
from tests.server.delivery.stand_in import StandIn, frame_of
from tests.support.clock import ManualClock

ANN, BO, CY = b"a" * 16, b"b" * 16, b"c" * 16


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def presence(registry: Registry, clock: ManualClock) -> Presence:
    made = Presence(registry, clock)
    registry.listener = made.announce
    return made


def assert_empty(presence: Presence) -> None:
    assert (presence._followers, presence._followed, presence._online) == ({}, {}, {})


def test_follow_pushes_the_present_state(presence: Presence, registry: Registry) -> None:
    ann = StandIn(ANN)
    registry.attach(StandIn(BO))
    presence.follow(ann, frozenset({BO}))
    presence.follow(ann, frozenset({CY}))
    assert ann.states == [frame_of(PresenceChanged(BO, online=True)), frame_of(PresenceChanged(CY, online=False))]


def test_follow_replaces_the_principals_followed_before(presence: Presence, registry: Registry) -> None:
    ann = StandIn(ANN)
    presence.follow(ann, frozenset({BO}))
    presence.follow(ann, frozenset({CY}))
    ann.states.clear()
    registry.attach(StandIn(BO))
    assert ann.states == []
    registry.attach(StandIn(CY))
    assert ann.states == [frame_of(PresenceChanged(CY, online=True))]


def test_only_the_first_and_the_last_subscriber_of_a_principal_are_announced(
    presence: Presence, registry: Registry, clock: ManualClock
) -> None:
    ann, first, second = StandIn(ANN), StandIn(BO), StandIn(BO)
    presence.follow(ann, frozenset({BO}))
    ann.states.clear()
    registry.attach(first)
    registry.attach(second)
    registry.detach(first)
    assert ann.states == [frame_of(PresenceChanged(BO, online=True))]
    registry.detach(second)
    assert ann.states[1:] == [frame_of(PresenceChanged(BO, online=False, last_seen_ms=clock.wall_ms()))]


def test_what_followers_know_is_not_pushed_again(presence: Presence) -> None:
    ann, cy = StandIn(ANN), StandIn(CY)
    presence.follow(ann, frozenset({BO}))
    presence.announce(BO, False)
    presence.announce(BO, True, [2])
    presence.follow(cy, frozenset({BO}))
    presence.announce(BO, True, [3])
    assert (presence.find_shown_at({2}), presence.find_shown_at({3})) == ([], [BO])
    online = frame_of(PresenceChanged(BO, online=True))
    assert (ann.states, cy.states) == ([frame_of(PresenceChanged(BO, online=False)), online], [online])


def test_separate_ends_following_in_both_directions(presence: Presence, registry: Registry) -> None:
    ann, bo = StandIn(ANN), StandIn(BO)
    registry.attach(ann)
    registry.attach(bo)
    presence.follow(ann, frozenset({BO, CY}))
    presence.follow(bo, frozenset({ANN}))
    ann.states.clear()
    bo.states.clear()
    presence.separate(ANN, BO)
    presence.announce(ANN, online=False)
    presence.announce(BO, online=False)
    assert (ann.states, bo.states) == ([], [])
    presence.announce(CY, online=True)
    assert ann.states == [frame_of(PresenceChanged(CY, online=True))]


def test_forget_leaves_nothing_of_a_subscriber(presence: Presence, registry: Registry) -> None:
    ann, bo = StandIn(ANN), StandIn(BO)
    registry.attach(ann)
    presence.follow(ann, frozenset({BO, CY}))
    presence.follow(bo, frozenset({CY}))
    presence.separate(ANN, BO)
    presence.forget(ann)
    presence.forget(bo)
    assert_empty(presence)


def test_following_nobody_leaves_nothing_of_a_subscriber(presence: Presence) -> None:
    ann = StandIn(ANN)
    presence.follow(ann, frozenset({BO}))
    presence.follow(ann, frozenset())
    assert_empty(presence)
    presence.forget(ann)
