"""Presence: who is connected, pushed to the subscribers that follow them."""

from __future__ import annotations

from collections.abc import Iterable

from protocol.events import PresenceChanged
from server.clock import Clock
from server.delivery.prepared_message import PreparedMessage
from server.delivery.registry import Registry
from server.delivery.subscriber import Subscriber


class Presence:
    """Who follows whom, in both directions. Bounded by the subscriptions of the subscribers that are here.

    `announce` is called by the registry, whose `listener` it is.
    """

    def __init__(self, registry: Registry, clock: Clock) -> None:
        self._registry = registry
        self._clock = clock
        self._followers: dict[bytes, set[Subscriber]] = {}
        self._followed: dict[Subscriber, set[bytes]] = {}

    def follow(self, subscriber: Subscriber, principals: frozenset[bytes]) -> None:
        """Replace whom a subscriber follows, and push how they are now."""
        self.forget(subscriber)
        if principals:
            self._followed[subscriber] = set(principals)
        for principal in principals:
            self._followers.setdefault(principal, set()).add(subscriber)
            subscriber.outbox.push(PresenceChanged(principal, self._registry.is_online(principal)))

    def show_online(self, subscriber: Subscriber, principals: Iterable[bytes]) -> None:
        """Push to a follower that these are online, whom it still follows: they are connected to another node."""
        for principal in principals:
            if principal in self._followed.get(subscriber, ()):
                subscriber.outbox.push(PresenceChanged(principal, True))

    def separate(self, one: bytes, other: bytes) -> None:
        """Let neither follow the other any longer: one has blocked the other."""
        for follower, followed in ((one, other), (other, one)):
            for subscriber in self._registry.subscribers_of(follower):
                if followed in self._followed.get(subscriber, ()):
                    self._followed[subscriber].remove(followed)
                    self._unfollow(followed, subscriber)

    def forget(self, subscriber: Subscriber) -> None:
        """Let a subscriber follow nobody."""
        for principal in self._followed.pop(subscriber, ()):
            self._unfollow(principal, subscriber)

    def announce(self, principal: bytes, online: bool) -> None:
        """Push to the followers that somebody came or went."""
        followers = self._followers.get(principal)
        if followers:
            last_seen_ms = 0 if online else self._clock.wall_ms()
            prepared = PreparedMessage(PresenceChanged(principal, online, last_seen_ms))
            for subscriber in followers:
                subscriber.outbox.push_ephemeral(prepared)

    def _unfollow(self, principal: bytes, subscriber: Subscriber) -> None:
        followers = self._followers[principal]
        followers.discard(subscriber)
        if not followers:
            del self._followers[principal]
