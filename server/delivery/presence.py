"""Presence: who is connected, to this node or another, pushed to the subscribers that follow them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from protocol.events import PresenceChanged
from server.clock import Clock
from server.delivery.prepared_message import PreparedMessage
from server.delivery.registry import Registry
from server.delivery.subscriber import Subscriber


class Presence:
    """Who follows whom, in both directions. Bounded by the subscriptions of the subscribers that are here.

    Of everybody who is followed, followers were shown the same last: `announce` pushes what differs from it. It is the
    `listener` of the registry of a node that serves alone.
    """

    def __init__(self, registry: Registry, clock: Clock) -> None:
        self._registry = registry
        self._clock = clock
        self._followers: dict[bytes, set[Subscriber]] = {}
        self._followed: dict[Subscriber, set[bytes]] = {}
        self._online: dict[bytes, Sequence[int]] = {}
        """Those of the followed who were shown as online, and the other nodes that they were found at."""

    @property
    def followed(self) -> list[bytes]:
        """Everybody whom somebody here follows."""
        return list(self._followers)

    def is_followed(self, principal: bytes) -> bool:
        """Whether somebody here follows them."""
        return principal in self._followers

    def find_shown_at(self, nodes: Collection[int]) -> list[bytes]:
        """Who was found at one of these other nodes last."""
        return [who for who, at in self._online.items() if not set(at).isdisjoint(nodes)]

    def follow(self, subscriber: Subscriber, principals: frozenset[bytes]) -> None:
        """Replace whom a subscriber follows, and push how they are now."""
        self.forget(subscriber)
        if principals:
            self._followed[subscriber] = set(principals)
        for principal in principals:
            self._followers.setdefault(principal, set()).add(subscriber)
            if self._registry.is_online(principal):
                self._online.setdefault(principal, ())
            now = PresenceChanged(principal, principal in self._online)
            subscriber.outbox.push_state((principal,), PreparedMessage(now))

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

    def announce(self, principal: bytes, online: bool, nodes: Sequence[int] = ()) -> None:
        """Push to the followers that somebody came, and to which other nodes, or went; nothing if they know."""
        if principal not in self._followers:
            return
        was_online = principal in self._online
        if online:
            self._online[principal] = nodes
        else:
            self._online.pop(principal, None)
        if online != was_online:
            last_seen_ms = 0 if online else self._clock.wall_ms()
            prepared = PreparedMessage(PresenceChanged(principal, online, last_seen_ms))
            for subscriber in self._followers[principal]:
                subscriber.outbox.push_state((principal,), prepared)

    def _unfollow(self, principal: bytes, subscriber: Subscriber) -> None:
        followers = self._followers[principal]
        followers.discard(subscriber)
        if not followers:
            del self._followers[principal]
            self._online.pop(principal, None)
