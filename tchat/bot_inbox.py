"""What of one dialog a bot has still to handle, in order.

Invariants: every event that its person may see is handed out in order, each number at most once in a life; a bounded
number of events is kept, and what does not fit is read from the server's history later.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from protocol.bodies import TimelineEvent

EVENTS_KEPT_MAX = 100
"""Of one dialog, while a handler is at work."""


@dataclass(frozen=True, slots=True)
class Unread:
    """Events of the history to read first: from `first` to `last`, both included."""

    first: int
    last: int


@dataclass(slots=True)
class DialogInbox:
    """`handled`: every event up to here is handled. `read_to`: those up to here are read from the history.

    `kept` are all visible events after `read_to`, or, while `overflowed`, the first of them. `newest` is the highest
    number that was heard of.
    """

    handled: int
    read_to: int = 0
    newest: int = 0
    overflowed: bool = False
    working: bool = False
    kept: deque[TimelineEvent] = field(default_factory=deque)

    def begins(self, first_seq: int) -> None:
        """Events before `first_seq` do not come by themselves: what is not here of them is in the history."""
        if first_seq - 1 <= self.newest:
            return
        if self.kept:
            self.overflowed = True
        else:
            self.read_to = first_seq - 1
        self.newest = first_seq - 1

    def heard(self, event: TimelineEvent) -> None:
        """The next event of the dialog; one that is known is passed over."""
        if event.seq <= max(self.newest, self.handled):
            return
        self.newest = event.seq
        if len(self.kept) >= EVENTS_KEPT_MAX:
            self.overflowed = True
        if not self.overflowed:
            self.kept.append(event)

    def pass_over(self, newest: int) -> None:
        """Nothing up to `newest` is to be handled."""
        self.kept.clear()
        self.overflowed = False
        self.handled = self.read_to = self.newest = max(self.newest, newest)

    def next(self) -> TimelineEvent | Unread | None:
        """What is next; None if all is handled. The same again until `handled` has passed it."""
        while self.kept and self.kept[0].seq <= self.handled:
            self.kept.popleft()
        if self.overflowed and not self.kept:
            self.read_to, self.overflowed = self.newest, False
        if self.handled < self.read_to:
            return Unread(self.handled + 1, self.read_to)
        return self.kept[0] if self.kept else None
