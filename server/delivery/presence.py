"""Presence: who is connected, told to the sessions that follow them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protocol.events import PresenceChanged
from server.clock import Clock
from server.delivery.prepared_message import PreparedMessage
from server.delivery.registry import Registry

if TYPE_CHECKING:
    from server.session.session import Session


class Presence:
    """Followers by principal. Bounded by the subscriptions of the sessions that are here."""

    def __init__(self, registry: Registry, clock: Clock) -> None:
        self._registry = registry
        self._clock = clock
        self._followers: dict[bytes, set[Session]] = {}
        registry.listener = self.changed

    def watch(self, session: Session, principals: frozenset[bytes]) -> None:
        """Replace whom a session follows, and tell it how they are now."""
        self.forget(session)
        session.watching = principals
        for principal in principals:
            self._followers.setdefault(principal, set()).add(session)
            session.push(PresenceChanged(principal, self._registry.online(principal)))

    def part(self, one: bytes, other: bytes) -> None:
        """Let neither follow the other any longer: one has blocked the other."""
        for follower, followed in ((one, other), (other, one)):
            for session in self._registry.of(follower):
                if followed in session.watching:
                    session.watching -= {followed}
                    self._unfollow(followed, session)

    def forget(self, session: Session) -> None:
        """Let a session follow nobody."""
        for principal in session.watching:
            self._unfollow(principal, session)
        session.watching = frozenset()

    def _unfollow(self, principal: bytes, session: Session) -> None:
        followers = self._followers[principal]
        followers.discard(session)
        if not followers:
            del self._followers[principal]

    def changed(self, principal: bytes, online: bool) -> None:
        """Tell the followers that somebody came or went."""
        followers = self._followers.get(principal)
        if followers:
            last_seen_ms = 0 if online else self._clock.wall_ms()
            prepared = PreparedMessage(PresenceChanged(principal, online, last_seen_ms))
            for session in followers:
                session.outbox.ephemeral(prepared)
