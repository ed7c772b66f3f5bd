"""What one worker counts and checks: what must come, what came, how long it took.

The first event of each dialog that a client gets has the number after its head, which is 0 in a new dialog, or what a
`dialog_state` says; each later one has the next number. A number that was skipped and comes later is `misordered`, one
that came before is `doubled`, one that never comes is `lost`. Up to which number events must come say the acks. What a
reader had when it had caught up may come again: where several nodes serve, one may hear of an event after that.

Stamps are nanoseconds of CLOCK_MONOTONIC, which is the same in all processes of a machine.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from typing import Protocol

from loadtest.latencies import Latencies
from loadtest.pieces import Streak
from loadtest.run_result import CHECK_COUNTS, Checks

_NEVER = sys.maxsize
_MISSING_MAX = 100_000


class Reader(Protocol):
    """Whoever receives events: the head of each dialog, and whether it catches up (then older ones may come again).

    `caught_up`: the heads when it had caught up last. Events up to there may come again, too.
    """

    heads: dict[bytes, int]
    caught_up: dict[bytes, int]
    catching_up: bool


class Tally:
    """The counts since the start of a worker, and the latencies of its measured part."""

    def __init__(self) -> None:
        self.connected = self.sent = self.acked = self.delivered = self.connects = 0
        self.ack, self.delivery, self.connect = Latencies(), Latencies(), Latencies()
        self.lateness = Latencies()
        """Between when a message was due and when this process sent it."""
        self.acked_heads: dict[bytes, int] = {}
        self.lost = self.doubled = self.misordered = self.refused = self.broken = self.odd = self.unanswered = 0
        self.expected = self.received = 0
        self._from_ns = self._until_ns = _NEVER
        self._missing: dict[tuple[int, bytes], set[int]] = {}
        self._first = ""

    def measure(self, from_ns: int, until_ns: int = _NEVER) -> None:
        """Record latencies of what is due from here until there."""
        self._from_ns, self._until_ns = from_ns, until_ns

    # what goes well

    def take_ack(self, dialog: bytes, seq: int, due_ns: int) -> None:
        """A message is acked."""
        self.acked += 1
        if seq > self.acked_heads.get(dialog, 0):
            self.acked_heads[dialog] = seq
        if self._from_ns <= due_ns < self._until_ns:
            self.ack.record(time.monotonic_ns() - due_ns)

    def take_stamps(self, stamps: Iterable[tuple[int, bytes]], reader: bytes) -> None:
        """Messages have come to somebody whose latencies count."""
        now_ns = time.monotonic_ns()
        for stamp, author in stamps:
            if author != reader and self._from_ns <= stamp < self._until_ns:
                self.delivery.record(now_ns - stamp)

    def take_connect(self, began_ns: int) -> None:
        """Somebody is caught up."""
        self.connects += 1
        if self._from_ns <= began_ns < self._until_ns:
            self.connect.record(time.monotonic_ns() - began_ns)

    def take_sent(self, due_ns: int, sent_ns: int) -> None:
        """A message of a schedule was sent."""
        if self._from_ns <= due_ns < self._until_ns:
            self.lateness.record(sent_ns - due_ns)

    # what does not

    def take_leap(self, reader: Reader, streak: Streak) -> None:
        """Take events that do not follow on the head of their dialog."""
        dialog, first, last = streak.dialog, streak.first, streak.last
        head = reader.heads.get(dialog, 0)
        if first > head + 1:
            self._miss(reader, dialog, range(head + 1, first))
        for seq in range(first, min(last, head) + 1):
            self._take_old(reader, dialog, seq)
        reader.heads[dialog] = max(head, last)

    def note_refused(self, why: str) -> None:
        """A send was refused."""
        self.refused += 1
        self.note(f"refused: {why}")

    def note_broken(self, why: str) -> None:
        """A connection ended or failed, and nobody wanted it."""
        self.broken += 1
        self.note(why)

    def note_odd(self, what: str) -> None:
        """A message came that nobody expected."""
        self.odd += 1
        self.note(f"unexpected: {what}")

    def note(self, what: str) -> None:
        """Remember what went wrong first."""
        self._first = self._first or what[:300]

    # the end

    def is_settled(self, members: Iterable[tuple[Reader, bytes]]) -> bool:
        """Whether all sends are answered, and everybody has what was acked."""
        if self.acked + self.refused < self.sent:
            return False
        return all(reader.heads.get(dialog, 0) >= self.acked_heads.get(dialog, 0) for reader, dialog in members)

    def close(self, members: Iterable[tuple[Reader, bytes]]) -> None:
        """Count what was expected by these members of dialogs, and what of it has not come."""
        for reader, dialog in members:
            target = self.acked_heads.get(dialog, 0)
            behind = max(0, target - reader.heads.get(dialog, 0))
            self.expected += target
            self.received += target - behind
            self.lost += behind
            if behind:
                self.note(f"lost: the last {behind} events of a dialog up to number {target}")
        missing = sum(map(len, self._missing.values()))
        self.received -= missing
        self.lost += missing
        self.unanswered += max(0, self.sent - self.acked - self.refused)
        if self.unanswered:
            self.note("a send had no answer")

    def checks(self) -> Checks:
        """The counts for the result."""
        return Checks(**{name: getattr(self, name) for name in CHECK_COUNTS}, first=self._first)

    def _miss(self, reader: Reader, dialog: bytes, numbers: range) -> None:
        self.note(f"skipped: number {numbers.start} of a dialog, {len(numbers)} in all")
        missing = self._missing.setdefault((id(reader), dialog), set())
        room = _MISSING_MAX - len(missing)
        missing.update(numbers[:room])
        self.lost += len(numbers[room:])

    def _take_old(self, reader: Reader, dialog: bytes, seq: int) -> None:
        missing = self._missing.get((id(reader), dialog), ())
        if seq in missing:
            assert isinstance(missing, set)
            missing.discard(seq)
            self.misordered += 1
            self.note(f"misordered: number {seq} of a dialog came after later ones")
        elif not reader.catching_up and seq > reader.caught_up.get(dialog, 0):
            self.doubled += 1
            self.note(f"doubled: number {seq} of a dialog came again")
