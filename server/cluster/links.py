"""The numbers toward each other node: what this node had for it is counted, whether or not it could be sent.

Invariant: for each row that concerns a session there, a number is used after the row's commit and before the next tick:
by a message with the row, or by none. So a target that got all numbers up to that of a tick has all rows before its
horizon, and every fault of lookup or bus is a gap that the target sees.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from protocol.bodies import TimelineEventRaw
from server.cluster.messages import NodeEvents, NodeMessage, NodeSignals, NodeTick, Signal, encode_message
from storage.bus import Bus


class _Link:
    """Toward one incarnation: the last number used, and what it said of itself."""

    __slots__ = ("k", "registers_rooms", "token")

    def __init__(self) -> None:
        self.k = 0
        self.token = ""
        """Under which its presence is whole."""
        self.registers_rooms = False


class Links:
    """From this incarnation to all others."""

    def __init__(self, bus: Bus, *, incarnation: int) -> None:
        self.published = 0
        """Messages that were handed to the bus."""
        self.spent = 0
        """Numbers without a message: their targets read the journal."""
        self._bus = bus
        self._incarnation = incarnation
        self._links: dict[int, _Link] = {}

    def __len__(self) -> int:
        return len(self._links)

    def __iter__(self) -> Iterator[int]:
        return iter(self._links)

    def __contains__(self, other: int) -> bool:
        return other in self._links

    def are_whole(self, token: str) -> bool:
        """Whether a lookup under this token sees all connections of all others."""
        return bool(token) and all(link.token == token for link in self._links.values())

    def keep(self, others: Collection[int]) -> None:
        """These are the others now."""
        for gone in [each for each in self._links if each not in others]:
            del self._links[gone]
        for other in others:
            self._links.setdefault(other, _Link())

    def note_presence(self, other: int, token: str, *, registers_rooms: bool) -> None:
        """An incarnation says under which token its presence is whole, and whether its large rooms are part of that."""
        if other in self._links:
            self._links[other].token, self._links[other].registers_rooms = token, registers_rooms

    def without_rooms(self) -> list[int]:
        """Those that register no large rooms, as far as is known: older versions."""
        return [other for other, link in self._links.items() if not link.registers_rooms]

    def spend(self, token: str = "") -> None:
        """Use a number toward all whose presence is not whole under `token`: they may have been overlooked."""
        for link in self._links.values():
            if not token or link.token != token:
                link.k += 1
                self.spent += 1

    def send(self, target: int, epoch: int, events: Sequence[TimelineEventRaw], roster_seqs: Sequence[int]) -> None:
        """Send rows to an incarnation, if it is one of the others."""
        link = self._links.get(target)
        if link is not None:
            link.k += 1
            message = NodeEvents(self._incarnation, epoch, link.k, list(events), list(roster_seqs))
            self._publish(target, message)

    def signal(self, target: int, epoch: int, signals: list[Signal]) -> None:
        """Send what may be lost, without a number, if the target is one of the others."""
        if target in self._links:
            self._publish(target, NodeSignals(self._incarnation, epoch, signals))

    def tick(self, epoch: int, horizon: int, token: str) -> None:
        """Tell all others that every row before `horizon` was sent to them, or had a number of its own."""
        for target, link in self._links.items():
            self._publish(target, NodeTick(self._incarnation, epoch, link.k, horizon, token, True))

    def _publish(self, target: int, message: NodeMessage) -> None:
        self.published += self._bus.publish(target, encode_message(message))
