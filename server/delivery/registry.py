"""Subscribers of this node: by principal for the fan-out, by device because a device has one connection."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from protocol.close_codes import CloseCode
from server.delivery.subscriber import Subscriber

PresenceListener = Callable[[bytes, bool], None]

AWAITED_MAX = 32
"""Connections of one principal that have authenticated, and whose sync has not ended. Each may hold a full mailbox;
afterwards a device has one connection."""
ARRIVALS_KEPT = 4096
"""Who came last. A room that was quiet while more came looks up all of its members instead."""


class Registry:
    """Subscribers from their sync to their end.

    The list of a principal's subscribers is one object from when the first comes until the last has gone; then it is
    empty. So a room that has found a list need not look again when a device of that principal comes or goes; it keeps
    no subscriber that has ended, and learns of other principals by `find_arrived`.

    A subscriber is awaited from its authentication until it takes its device over. It is attached, and gets every
    event, before the store has confirmed its sign-in; only then may it take its device over from an older connection.
    """

    def __init__(self) -> None:
        self.arrivals = 0
        """How often a principal came of whom nobody was here."""
        self.departures = 0
        """How often the last subscriber of a principal went."""
        self.listener: PresenceListener = lambda _principal, _online: None
        self.on_detach: Callable[[Subscriber], None] = lambda _subscriber: None
        self._by_principal: dict[bytes, list[Subscriber]] = {}
        self._by_device: dict[bytes, Subscriber] = {}
        self._awaited: dict[bytes, list[Subscriber]] = {}
        self._arrived: deque[bytes] = deque(maxlen=ARRIVALS_KEPT)

    def __len__(self) -> int:
        return len(self._by_device)

    def __iter__(self) -> Iterator[Subscriber]:
        return iter([subscriber for here in self._by_principal.values() for subscriber in here])

    def await_sync(self, subscriber: Subscriber) -> None:
        """Note a connection that has authenticated. With too many of its principal one is closed as RATE_LIMITED.

        That is the oldest of the sign-in that has the most: a token that was stolen ends only its own connections.
        """
        awaited = self._awaited.setdefault(subscriber.principal, [])
        awaited.append(subscriber)
        if len(awaited) > AWAITED_MAX:
            [(sign_in, _)] = Counter(each.sign_in for each in awaited).most_common(1)
            oldest = next(each for each in awaited if each.sign_in == sign_in)
            self._await_no_longer(oldest)
            oldest.close(CloseCode.RATE_LIMITED)

    def attach(self, subscriber: Subscriber) -> None:
        """Add a subscriber; nothing happens if it is here."""
        principal = subscriber.principal
        here = self._by_principal.get(principal)
        if here is None:
            self._by_principal[principal] = [subscriber]
            self._arrived.append(principal)
            self.arrivals += 1
            self.listener(principal, True)
        elif subscriber not in here:
            here.append(subscriber)

    def take_over(self, subscriber: Subscriber) -> bool:
        """Make this, if it is still here, the one connection of its device; whether it is now.

        The connection that was attached last wins, whichever is confirmed first; the other is closed as REPLACED.
        """
        here = self.subscribers_of(subscriber.principal)
        if subscriber not in here:
            return False
        other = self._by_device.get(subscriber.device)
        if other is not None and here.index(other) > here.index(subscriber):
            subscriber.close(CloseCode.REPLACED)
            return False
        self._by_device[subscriber.device] = subscriber
        self._await_no_longer(subscriber)
        if other is not None and other is not subscriber:
            other.close(CloseCode.REPLACED)
        return True

    def detach(self, subscriber: Subscriber) -> None:
        """Remove a subscriber; nothing happens if it is not here."""
        self._await_no_longer(subscriber)
        if self._by_device.get(subscriber.device) is subscriber:
            del self._by_device[subscriber.device]
        here = self._by_principal.get(subscriber.principal, [])
        if subscriber not in here:
            return
        here.remove(subscriber)
        self.on_detach(subscriber)
        if not here:
            del self._by_principal[subscriber.principal]
            self.departures += 1
            self.listener(subscriber.principal, False)

    def subscribers_of(self, principal: bytes) -> list[Subscriber]:
        """The subscribers of a principal; not to be changed."""
        return self._by_principal.get(principal, [])

    def find_device(self, device: bytes) -> Subscriber | None:
        """The one connection of a device; None if it is not here."""
        return self._by_device.get(device)

    def is_online(self, principal: bytes) -> bool:
        """Whether any subscriber of the principal is here."""
        return principal in self._by_principal

    def find_arrived(self, since: int) -> list[bytes] | None:
        """Who came since there were so many `arrivals`, the last first; None if not all of them are kept any more."""
        count = self.arrivals - since
        return list(islice(reversed(self._arrived), count)) if count <= len(self._arrived) else None

    def find_present(self, members: dict[bytes, int]) -> Iterable[tuple[bytes, list[Subscriber]]]:
        """Those of `members` who are here; costs the smaller of the two."""
        here = self._by_principal
        if len(members) <= len(here):
            return [(who, here[who]) for who in members if who in here]
        return [(who, subscribers) for who, subscribers in here.items() if who in members]

    def find_few(self, principals: Iterable[bytes]) -> list[Subscriber]:
        """The subscribers of these principals; costs as much as there are."""
        return [subscriber for here in map(self._by_principal.get, principals) if here for subscriber in here]

    def end_sign_in(self, principal: bytes, sign_in: bytes, close_code: CloseCode, reason: str) -> None:
        """Close every connection of a sign-in of a principal at once."""
        for subscriber in list(self.subscribers_of(principal)):
            if subscriber.sign_in == sign_in:
                subscriber.close(close_code, reason)

    def end_device(self, principal: bytes, device: bytes, close_code: CloseCode, reason: str) -> None:
        """Close every connection of a device of a principal at once."""
        for subscriber in list(self.subscribers_of(principal)):
            if subscriber.device == device:
                subscriber.close(close_code, reason)

    def end_principal(self, principal: bytes, close_code: CloseCode, reason: str) -> None:
        """Close every connection of a principal at once."""
        for subscriber in list(self.subscribers_of(principal)):
            subscriber.close(close_code, reason)

    def _await_no_longer(self, subscriber: Subscriber) -> None:
        awaited = self._awaited.get(subscriber.principal, [])
        if subscriber in awaited:
            awaited.remove(subscriber)
            if not awaited:
                del self._awaited[subscriber.principal]
