"""Numbered commands on their way: when each is sent, when again, and in which order.

Invariants:

- A command is in the store before its bytes leave, and until its answer is final.
- A command is stored as the app made it, and sealed when its bytes leave for the first time. From then on the same
  bytes leave again, whatever happens, until the server refuses them as `stale` or their number as passed: only then it
  is certain that they are not stored, and the command is sealed anew.
- A command that cannot be sealed yet holds back what comes after it in its timeline, and nothing else. A removal passes
  it: a dialog may be held until somebody is removed. What was passed goes on under a new number.
- Commands of one timeline leave in order of `n`. After a temporary refusal nothing more of that timeline leaves
  until everything under way is answered; then sending starts again at the refused one. If the server awaits a number
  that is not in the store any more, it is skipped.
- A command that is not pipelined (a change of members, settings, ...) is alone under way in its timeline.
- At most `in_flight_max` commands are unanswered.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import msgspec

from protocol import ids
from protocol.bodies import TimelineEvent
from protocol.codec import MSGPACK
from protocol.command_rules import Command
from protocol.commands import Leave, Numbered, Remove, Skip
from protocol.errors import ErrorCode
from protocol.events import DialogState
from protocol.replies import Acked, Failed, Reply
from protocol.timeline_of import timeline_of
from tchat.actions import Notification, Refused, Renumbered, Sent, Withheld
from tchat.encryption.sealing import Clear, First, NotYet, Ready, Sealer
from tchat.store import OutboxStore, Stored

RETRY_S_MAX = 30.0
ROUNDS_MAX = 16
"""So often in a row the sealer asks for something first, before its dialog pauses."""
_OF_THE_SESSION = frozenset(
    {ErrorCode.WRONG_STATE, ErrorCode.TOKEN_EXPIRED, ErrorCode.TOKEN_INVALID, ErrorCode.SIGNED_OUT}
)
"""Refusals for the sake of the session, not of the command: it waits for the next connection."""


@dataclass(slots=True)
class _Entry:
    """`sealed` is what may have left in place of the command. `withheld`: the sealer has said `NotYet`."""

    n: int
    command: Numbered
    sealed: Numbered | None = None
    withheld: bool = False

    @classmethod
    def read(cls, stored: Stored) -> _Entry:
        """A command begins with its tag; one that was sealed is a pair of bytes."""
        parts = msgspec.msgpack.decode(stored.data)
        if isinstance(parts[0], int):
            return cls(stored.n, _decode(stored.data))
        command, sealed = parts
        return cls(stored.n, _decode(command), _decode(sealed))

    def row(self, sealed: Numbered) -> bytes:
        """How the store keeps the command once it is sealed."""
        return msgspec.msgpack.encode((MSGPACK.encode(self.command), MSGPACK.encode(sealed)))


@dataclass(slots=True)
class _Queue:
    """The commands of one timeline. `resume_at` is set while it pauses after a refusal.

    `preparing`: the sealer waits for answers; `rounds` counts how often in a row. `withheld`: it has said `NotYet`,
    of a command that names the dialog `about`: an invitation is in another timeline.
    """

    in_flight: int = 0
    changing: bool = False
    resume_at: float | None = None
    refusals: int = 0
    preparing: bool = False
    rounds: int = 0
    withheld: NotYet | None = None
    about: bytes = ids.NIL
    waiting: list[int] = field(default_factory=list)

    def closed_for(self, entry: _Entry) -> bool:
        """Whether this command must wait for others of its timeline."""
        if self.resume_at is not None or self.changing:
            return True
        if self.waiting and not (self.withheld is not None and isinstance(entry.command, Remove | Leave)):
            return True
        return self.in_flight > 0 and not entry.command.rule.pipelined

    @property
    def idle(self) -> bool:
        return not (self.in_flight or self.waiting or self.resume_at is not None)


class Sending:
    """The outbox of a device over one connection after another."""

    def __init__(self, store: OutboxStore, rng: random.Random, sealer: Sealer) -> None:
        self._store = store
        self._rng = rng
        self._sealer = sealer
        self._me = self._device = ids.NIL
        self._entries: dict[int, _Entry] = {}
        self._ready: list[int] = []
        self._queues: dict[bytes, _Queue] = {}
        self._in_flight: dict[int, tuple[int, bytes]] = {}
        self._to_ask: deque[tuple[bytes, Command]] = deque()
        self._asked: dict[int, tuple[bytes, Command]] = {}
        self._skips: list[Skip] = []
        self._notices: list[Notification] = []
        for stored in store.pending():
            self._keep(_Entry.read(stored))

    def signed_in(self, principal: bytes, device: bytes) -> None:
        """The principal and device of the commands; `WrongDeviceError` if the store belongs to another device."""
        self._store.bind(device)
        self._me, self._device = principal, device

    def submit(self, command: Numbered, key: bytes = b"") -> int:
        """Store a command and queue it; returns its number. `OutboxFullError` if there is no room.

        With a `key`: of that the command is made once, so if there is one of it, this is its number.
        """
        if key and (made := self._store.find_made(key)) is not None:
            return made.n
        n = self._store.next_n()
        numbered = msgspec.structs.replace(command, id=0, n=n)
        self._store.append(Stored(n, MSGPACK.encode(numbered)), key)
        self._keep(_Entry(n, numbered))
        return n

    def give_up(self, n: int) -> bool:
        """Forget a command; False if it is sealed or under way, so that only its answer can say what became of it."""
        entry = self._entries.get(n)
        if entry is None or entry.sealed is not None or any(n == sent for sent, _ in self._in_flight.values()):
            return False
        self._drop(entry)
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
        """The commands to write now, in order, each but a skip with a fresh request id."""
        self._resume(now)
        yield from self._skips
        self._skips.clear()
        while self._ready and self._under_way < in_flight_max:
            entry = self._entries.get(heapq.heappop(self._ready))
            if entry is None:
                continue
            dialog = self.timeline_of(entry.command)
            queue = self._queues.setdefault(dialog, _Queue())
            if queue.closed_for(entry):
                queue.waiting.append(entry.n)
            elif (leaving := self._sealed(entry, queue, dialog, now)) is not None:
                queue.in_flight += 1
                queue.changing = not entry.command.rule.pipelined
                key = next(request_id)
                self._in_flight[key] = (entry.n, dialog)
                yield msgspec.structs.replace(leaving, id=key)
        while self._to_ask and self._under_way < in_flight_max:
            key = next(request_id)
            self._asked[key] = self._to_ask.popleft()
            yield msgspec.structs.replace(self._asked[key][1], id=key)

    def take_notices(self) -> list[Notification]:
        """What `take_due` found out about commands that do not leave, for the app."""
        taken, self._notices = self._notices, []
        return taken

    def next_resume(self) -> float | None:
        """When a paused timeline resumes, in the caller's time."""
        paused = (queue.resume_at for queue in self._queues.values() if not (queue.in_flight or queue.preparing))
        return min((at for at in paused if at is not None), default=None)

    def answered(self, reply: Reply, now: float) -> list[Notification] | None:
        """The reply to a command under way; None if it answers something else."""
        if (asked := self._asked.pop(reply.id, None)) is not None:
            self._prepared(*asked, reply, now)
            return []
        if not isinstance(reply, (Acked, Failed)) or (sent := self._in_flight.pop(reply.id, None)) is None:
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

    def heard(self, event: TimelineEvent | DialogState) -> None:
        """An event of the server, before the app gets it: what waits for it may be sealed now."""
        self._sealer.heard(event)
        for dialog, queue in list(self._queues.items()):
            if event.dialog in (dialog, queue.about):
                self._seal_again(dialog, queue)

    def reset(self) -> None:
        """All that is known of dialogs comes again."""
        self._sealer.reset()

    def seal_again(self) -> None:
        """Ask the sealer again for everything that it withholds: what it waited for may have happened."""
        for dialog, queue in list(self._queues.items()):
            self._seal_again(dialog, queue)

    def disconnected(self) -> None:
        """The outcome of everything under way is unknown: send it again, in order, on the next connection."""
        self._in_flight.clear()
        self._asked.clear()
        self._to_ask.clear()
        self._queues.clear()
        self._skips.clear()
        self._ready = sorted(self._entries)

    @property
    def _under_way(self) -> int:
        return len(self._in_flight) + len(self._asked)

    def _keep(self, entry: _Entry) -> None:
        self._entries[entry.n] = entry
        heapq.heappush(self._ready, entry.n)

    def _done(self, entry: _Entry, acked: Acked) -> list[Notification]:
        if entry.sealed is not None:
            self._sealer.acked(entry.sealed)
            self.seal_again()
        del self._entries[entry.n]
        self._store.remove(entry.n, durable=False, seq=acked.seq)
        return [Sent(entry.n, acked)]

    def _failed(self, entry: _Entry, failed: Failed, queue: _Queue, dialog: bytes, now: float) -> list[Notification]:
        if failed.code == ErrorCode.NUMBER_PASSED:
            return [self._renumber(entry)]
        if failed.code == ErrorCode.EARLIER_FIRST:
            awaited = self._entries.get(failed.awaited_n or 0)
            if failed.awaited_n is not None and (awaited is None or awaited.withheld):
                self._skips.append(Skip(0, dialog, failed.awaited_n))
            self._again(entry, queue, now)
        elif failed.code == ErrorCode.STALE and entry.sealed is not None:
            self._sealer.stale(entry.sealed, failed)
            newer = (failed.keys_seq or 0) > _keys_seq(entry.sealed)
            entry.sealed = None
            self._again(entry, queue, now if newer else now + self._wait_s(failed, queue))
        elif failed.code in _OF_THE_SESSION:
            self._again(entry, queue, float("inf"))
        elif failed.temporary:
            self._again(entry, queue, now + self._wait_s(failed, queue))
        else:
            return [self._refused(entry, failed)]
        return []

    def _refused(self, entry: _Entry, failed: Failed) -> Notification:
        self._drop(entry)
        return Refused(entry.n, entry.command, failed)

    def _drop(self, entry: _Entry) -> None:
        del self._entries[entry.n]
        self._store.remove(entry.n, durable=True)
        self._sealer.dropped(entry.command)
        self.seal_again()

    def _renumber(self, entry: _Entry) -> Notification:
        """Its number was not stored and never will be: continue under a new one, which is sealed anew."""
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
        wait_s = self._growing_wait_s(queue)
        return wait_s if failed.retry_after_s is None else max(0.0, failed.retry_after_s)

    def _growing_wait_s(self, queue: _Queue) -> float:
        if queue.resume_at is None:
            queue.refusals += 1
        return self._rng.uniform(0.5, 1.0) * min(RETRY_S_MAX, 0.25 * 2.0 ** min(queue.refusals, 10))

    def _sealed(self, entry: _Entry, queue: _Queue, dialog: bytes, now: float) -> Numbered | None:
        """What leaves for a command; None if nothing does now."""
        if entry.sealed is not None:
            return entry.sealed
        outcome = NotYet() if queue.preparing else self._sealer.seal(entry.command, entry.row)
        match outcome:
            case Clear() | Ready():
                queue.rounds, queue.withheld, entry.withheld = 0, None, False
                entry.sealed = outcome.command if isinstance(outcome, Ready) else None
                return entry.sealed or entry.command
            case Failed():
                queue.rounds, queue.withheld = 0, None
                self._notices.append(self._refused(entry, outcome))
                return None
            case First(commands=commands):
                self._prepare(queue, dialog, commands, now)
            case NotYet() if not queue.preparing:
                if outcome.reason and outcome != queue.withheld:
                    self._notices.append(Withheld(entry.n, outcome.reason))
                entry.withheld = True
                queue.withheld, queue.about = outcome, getattr(entry.command, "dialog", dialog)
        queue.waiting.append(entry.n)
        return None

    def _prepare(self, queue: _Queue, dialog: bytes, commands: Sequence[Command], now: float) -> None:
        queue.rounds += 1
        if queue.rounds > ROUNDS_MAX:
            queue.resume_at, queue.rounds = now + self._growing_wait_s(queue), 0
        else:
            queue.preparing = True
            self._to_ask.extend((dialog, command) for command in commands)

    def _prepared(self, dialog: bytes, command: Command, reply: Reply, now: float) -> None:
        """The answer to something that the sealer needed first; with the last one, it is asked again."""
        self._sealer.answered(command, reply)
        queue = self._queues[dialog]
        if isinstance(reply, Failed) and reply.code != ErrorCode.STALE:
            of_the_session = reply.code in _OF_THE_SESSION
            wait_s = float("inf") if of_the_session else self._wait_s(reply, queue)
            queue.resume_at = max(queue.resume_at or 0.0, now + wait_s)
        queue.preparing = any(other == dialog for other, _ in (*self._asked.values(), *self._to_ask))
        if not queue.preparing and queue.resume_at is None:
            self._release(dialog)

    def _seal_again(self, dialog: bytes, queue: _Queue) -> None:
        if queue.withheld is not None and not queue.preparing and queue.resume_at is None:
            self._release(dialog)

    def _resume(self, now: float) -> None:
        for dialog, queue in list(self._queues.items()):
            over = queue.resume_at is not None and queue.resume_at <= now
            if over and not (queue.in_flight or queue.preparing):
                self._release(dialog)

    def _tidy(self, dialog: bytes, queue: _Queue) -> None:
        """Release what waited for the queue to empty; drop queues without content."""
        blocked = queue.resume_at is not None or queue.preparing or queue.withheld is not None
        if not (queue.in_flight or blocked):
            self._release(dialog)
        if queue.idle and not queue.refusals:
            self._queues.pop(dialog, None)

    def _release(self, dialog: bytes) -> None:
        queue = self._queues.get(dialog)
        if queue is not None:
            queue.resume_at = None
            for n in queue.waiting:
                heapq.heappush(self._ready, n)
            queue.waiting.clear()


def _decode(data: bytes) -> Numbered:
    command = MSGPACK.decode_command(data)
    assert isinstance(command, Numbered)
    return command


def _keys_seq(sealed: Numbered) -> int:
    made_at = getattr(sealed, "header", None) or getattr(sealed, "signed", None)
    return 0 if made_at is None else made_at.keys_seq
