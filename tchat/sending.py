"""Numbered commands on their way: when each is sent, when again, and in which order.

Invariants:

- A command is in the store before its bytes leave, and until its answer is final.
- Commands of one timeline leave in order of `n`. After a temporary refusal nothing more of that timeline leaves
  until everything under way is answered; then sending starts again at the refused one. If the server awaits a number
  that is not in the store any more, it is skipped.
- A command that is not pipelined (a change of members, settings, ...) is alone under way in its timeline.
- At most `in_flight_max` commands are unanswered.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from protocol import ids
from protocol.bodies import Header, TimelineEvent
from protocol.codec import MSGPACK
from protocol.command_rules import Command
from protocol.commands import Numbered, Skip
from protocol.errors import ErrorCode
from protocol.replies import Acked, Failed
from protocol.timeline_of import timeline_of
from tchat.actions import Notification, Refused, Renumbered, Sent, is_temporary
from tchat.store import OutboxStore, Stored

RETRY_S_MAX = 30.0
_OF_THE_SESSION = frozenset(
    {ErrorCode.WRONG_STATE, ErrorCode.TOKEN_EXPIRED, ErrorCode.TOKEN_INVALID, ErrorCode.SIGNED_OUT}
)
"""Refusals for the sake of the session, not of the command: it waits for the next connection."""


@dataclass(slots=True)
class _Entry:
    n: int
    command: Numbered


@dataclass(slots=True)
class _Queue:
    """The commands of one timeline. `resume_at` is set while it pauses after a refusal."""

    in_flight: int = 0
    changing: bool = False
    resume_at: float | None = None
    refusals: int = 0
    keys_seq: int = 0
    waiting: list[int] = field(default_factory=list)

    def closed_for(self, entry: _Entry) -> bool:
        """Whether this command must wait for others of its timeline."""
        if self.waiting or self.resume_at is not None or self.changing:
            return True
        return self.in_flight > 0 and not entry.command.rule.pipelined

    @property
    def idle(self) -> bool:
        return not (self.in_flight or self.waiting or self.resume_at is not None)


class Sending:
    """The outbox of a device over one connection after another."""

    def __init__(self, store: OutboxStore, rng: random.Random) -> None:
        self._store = store
        self._rng = rng
        self._me = self._device = ids.NIL
        self._entries: dict[int, _Entry] = {}
        self._ready: list[int] = []
        self._queues: dict[bytes, _Queue] = {}
        self._in_flight: dict[int, tuple[int, bytes]] = {}
        self._skips: list[Skip] = []
        for stored in store.pending():
            command = MSGPACK.decode_command(stored.data)
            assert isinstance(command, Numbered)
            self._keep(_Entry(stored.n, command))

    def signed_in(self, principal: bytes, device: bytes) -> None:
        """The principal and device of the commands; `WrongDeviceError` if the store belongs to another device."""
        self._store.bind(device)
        self._me, self._device = principal, device

    def submit(self, command: Numbered) -> int:
        """Store a command and queue it; returns its number. `OutboxFullError` if there is no room."""
        n = self._store.next_n()
        numbered = msgspec.structs.replace(command, id=0, n=n)
        self._store.append(Stored(n, MSGPACK.encode(numbered)))
        self._keep(_Entry(n, numbered))
        return n

    def give_up(self, n: int) -> bool:
        """Forget a command; False if it is under way, so that only its answer can say what became of it."""
        if n not in self._entries or any(n == sent for sent, _ in self._in_flight.values()):
            return False
        del self._entries[n]
        self._store.remove(n, durable=True)
        return True

    def pending(self) -> list[Numbered]:
        """The commands that await a final answer, in order of number."""
        return [self._entries[n].command for n in sorted(self._entries)]

    @property
    def count(self) -> int:
        """How many commands await a final answer."""
        return len(self._entries)

    @property
    def in_flight(self) -> int:
        """How many commands are under way on this connection."""
        return len(self._in_flight)

    def timeline_of(self, command: Numbered) -> bytes:
        """The dialog that a command appends to."""
        return timeline_of(command, self._me, self._device)

    def take_due(self, now: float, request_id: Iterator[int], in_flight_max: int) -> Iterator[Command]:
        """The commands to write now, in order, each numbered one with a fresh request id."""
        self._resume(now)
        yield from self._skips
        self._skips.clear()
        while self._ready and len(self._in_flight) < in_flight_max:
            entry = self._entries.get(heapq.heappop(self._ready))
            if entry is None:
                continue
            dialog = self.timeline_of(entry.command)
            queue = self._queues.setdefault(dialog, _Queue())
            if queue.closed_for(entry):
                queue.waiting.append(entry.n)
                continue
            self._under_newest_keys(entry, queue)
            queue.in_flight += 1
            queue.changing = not entry.command.rule.pipelined
            key = next(request_id)
            self._in_flight[key] = (entry.n, dialog)
            yield msgspec.structs.replace(entry.command, id=key)

    def next_resume(self) -> float | None:
        """When a paused timeline resumes, in the caller's time."""
        held = (queue.resume_at for queue in self._queues.values() if not queue.in_flight)
        return min((at for at in held if at is not None), default=None)

    def answered(self, reply: Acked | Failed, now: float) -> list[Notification] | None:
        """The reply to a command under way; None if it answers something else."""
        sent = self._in_flight.pop(reply.id, None)
        if sent is None:
            return None
        n, dialog = sent
        queue = self._queues[dialog]
        queue.in_flight -= 1
        queue.changing = False
        entry = self._entries.get(n)
        outcome: list[Notification] = []
        if entry is not None and isinstance(reply, Acked):
            queue.refusals = 0
            outcome = self._done(entry, reply)
        elif entry is not None and isinstance(reply, Failed):
            outcome = self._failed(entry, reply, queue, dialog, now)
        self._tidy(dialog, queue)
        return outcome

    def seen(self, event: TimelineEvent) -> list[Notification]:
        """An event of this device: its command is durable, even if the ack is lost."""
        entry = self._entries.get(event.n)
        if entry is None or event.device != self._device or self.timeline_of(entry.command) != event.dialog:
            return []
        return self._done(entry, Acked(0, event.dialog, event.n, event.seq, event.at_ms, event.messages))

    def disconnected(self) -> None:
        """The outcome of everything under way is unknown: send it again, in order, on the next connection."""
        self._in_flight.clear()
        self._queues.clear()
        self._skips.clear()
        self._ready = sorted(self._entries)

    def _keep(self, entry: _Entry) -> None:
        self._entries[entry.n] = entry
        heapq.heappush(self._ready, entry.n)

    def _done(self, entry: _Entry, acked: Acked) -> list[Notification]:
        del self._entries[entry.n]
        self._store.remove(entry.n, durable=False)
        return [Sent(entry.n, acked)]

    def _failed(self, entry: _Entry, failed: Failed, queue: _Queue, dialog: bytes, now: float) -> list[Notification]:
        if failed.code == ErrorCode.NUMBER_PASSED:
            return [self._renumber(entry)]
        if failed.code == ErrorCode.EARLIER_FIRST:
            if failed.awaited_n is not None and failed.awaited_n not in self._entries:
                self._skips.append(Skip(0, dialog, failed.awaited_n))
            self._again(entry, queue, now)
        elif failed.code == ErrorCode.STALE:
            newer = failed.keys_seq is not None and failed.keys_seq > queue.keys_seq
            queue.keys_seq = max(queue.keys_seq, failed.keys_seq or 0)
            self._again(entry, queue, now if newer else now + self._wait_s(failed, queue))
        elif failed.code in _OF_THE_SESSION:
            self._again(entry, queue, float("inf"))
        elif is_temporary(failed):
            self._again(entry, queue, now + self._wait_s(failed, queue))
        else:
            del self._entries[entry.n]
            self._store.remove(entry.n, durable=True)
            return [Refused(entry.n, entry.command, failed)]
        return []

    def _renumber(self, entry: _Entry) -> Notification:
        """Its number was not stored and never will be: continue under a new one."""
        del self._entries[entry.n]
        n = self._store.next_n()
        command = msgspec.structs.replace(entry.command, n=n)
        self._store.renumber(entry.n, Stored(n, MSGPACK.encode(command)))
        self._keep(_Entry(n, command))
        return Renumbered(entry.n, n)

    def _again(self, entry: _Entry, queue: _Queue, at: float) -> None:
        queue.waiting.append(entry.n)
        queue.resume_at = max(queue.resume_at or 0.0, at)

    def _wait_s(self, failed: Failed, queue: _Queue) -> float:
        """The delay that the server asks for, else one that grows with each refusal in a row."""
        if queue.resume_at is None:
            queue.refusals += 1
        if failed.retry_after_s is not None:
            return max(0.0, failed.retry_after_s)
        return self._rng.uniform(0.5, 1.0) * min(RETRY_S_MAX, 0.25 * 2.0 ** min(queue.refusals, 10))

    def _under_newest_keys(self, entry: _Entry, queue: _Queue) -> None:
        header: Header | None = getattr(entry.command, "header", None)
        if header is not None and header.keys_seq < queue.keys_seq:
            header = msgspec.structs.replace(header, keys_seq=queue.keys_seq)
            entry.command = msgspec.structs.replace(entry.command, header=header)
            self._store.replace(Stored(entry.n, MSGPACK.encode(entry.command)))

    def _resume(self, now: float) -> None:
        for dialog, queue in list(self._queues.items()):
            if queue.resume_at is not None and queue.resume_at <= now and not queue.in_flight:
                self._release(dialog)

    def _tidy(self, dialog: bytes, queue: _Queue) -> None:
        """Release what waited for the queue to empty; drop queues without content."""
        if not queue.in_flight and queue.resume_at is None:
            self._release(dialog)
        if queue.idle and not queue.refusals and not queue.keys_seq:
            self._queues.pop(dialog, None)

    def _release(self, dialog: bytes) -> None:
        queue = self._queues.get(dialog)
        if queue is not None:
            queue.resume_at = None
            for n in queue.waiting:
                heapq.heappush(self._ready, n)
            queue.waiting.clear()
