"""A device: the client's own state machine, a witness that looks at every message, and a shell in virtual time."""

from __future__ import annotations

import base64
import random
from collections import Counter
from collections.abc import Callable, Mapping

from protocol.bodies import MembersAdded, TimelineEvent
from protocol.codec import MSGPACK, ServerMessage
from protocol.commands import Heartbeat, Numbered
from protocol.events import CaughtUp, DialogState, HeartbeatReply, MissedChanges, ReceiptChanged
from protocol.replies import Acked, Authenticated, Synced
from server.gateway.frames import CLOSE
from tchat.actions import CloseConnection, Connect, ConnectionState, Emit, Refused, SendBytes, Stop
from tchat.core import ClientCore
from tchat.store import MemoryOutbox
from tests.adversity.restart_server import SignIn
from tests.adversity.restart_timeline import Row
from tests.adversity.restart_verify import Violations
from tests.adversity.restart_witness import Hole, Ledger, Received, Witness, WitnessedCodec
from tests.simulation.database import Database
from tests.simulation.loop import Process, VirtualLoop
from tests.simulation.network import Link
from tests.support.sealers import PlainSealer

_RECONNECT_S_MAX = 2.0
"""Longer back-offs only take time."""


def epoch_of(position: str) -> int:
    """The epoch in a position (`server/writing/position.py`)."""
    return int.from_bytes(base64.urlsafe_b64decode(position)[:8], "big")


class StrictWitness(Witness):
    """A witness that also holds every message to what is durable at that moment, and every resume to its position.

    A position vouches for all that came before it. Between two states of a dialog each number comes once, but for those
    that the state covers, which may be delivered after they have been read, and those that a node repeats because it
    does not know the fate of a call.
    """

    def __init__(self, device: Device, database: Database, violations: Violations) -> None:
        super().__init__(device.principal, device.ledger, lambda _settled: None)
        self.read: dict[tuple[bytes, bytes], int] = {}
        """By dialog and member how far the member has read."""
        self.said: dict[bytes, int] = {}
        """By dialog how far this device has said that its person has read."""
        self.held: dict[str, dict[bytes, int]] = {}
        """By position how far each dialog had come when the position was given."""
        self._device = device
        self._database = database
        self._violations = violations
        self._came: dict[bytes, int] = {}
        self._as_of_state: dict[bytes, int] = {}
        self._late: dict[bytes, int] = {}
        self._again: Counter[tuple[bytes, int]] = Counter()
        self._windowed = False
        self.old_epoch = 0
        """The epoch whose history is lost in part, until the device is told in a later one; 0: none."""
        self._lost: Mapping[tuple[bytes, int], Row] = {}
        """By place the rows that are lost."""
        self._renewed = False

    @property
    def came(self) -> dict[bytes, int]:
        """How far each dialog has come, over this connection and what its position vouches for."""
        return self._on_the_wire

    def heard(self, message: ServerMessage) -> None:
        """One message of the server, as it came."""
        self._device.note_heard(self._device.name, message)
        if isinstance(message, DialogState):
            self._look_at_state(message)
        elif isinstance(message, TimelineEvent):
            self._look_at_event(message)
        super().heard(message)
        if self.old_epoch:
            self._look_at_epoch(message)
        self._fold_receipts(message)
        match message:
            case Authenticated():
                self._on_the_wire = dict(self.held.get(self._device.core.position, {}))
                self._came = dict(self._on_the_wire)
                self._as_of_state.clear()
                self._late.clear()
                self._again.clear()
            case Synced(recovered=recovered):
                self._windowed = not recovered
                if not recovered:
                    self.held.clear()  # older positions are of what the client drops now
                    self._on_the_wire.clear()
                    self._came.clear()
                    self.read.clear()
                    self.said.clear()
            case MissedChanges(dialog=dialog, before_seq=before, complete=False):
                holes = self.received.holes
                holes[:] = [hole for hole in holes if (hole.dialog, hole.then, hole.where) != (dialog, before, "state")]
            case Acked():
                self._look_at_ack(message)
            case CaughtUp(position=position) | HeartbeatReply(position=position) if position:
                self._windowed = self._windowed and not isinstance(message, CaughtUp)
                self.held.setdefault(position, dict(self._on_the_wire))
            case _:
                pass

    def lose(self, lost: Mapping[tuple[bytes, int], Row], epoch: int) -> None:
        """A part of the history is lost: until a sync in a later epoch, what comes may be of it."""
        self._lost, self.old_epoch, self._renewed = lost, epoch, False

    def give_lost_to(self, successor: StrictWitness) -> None:
        """What the device is still to be told, its next life is; what this one received since may be of either."""
        if self.old_epoch:
            successor.lose(self._lost, self.old_epoch)
            self.old_epoch, self.received = 0, Received()

    def _look_at_epoch(self, message: ServerMessage) -> None:
        match message:
            case Synced(recovered=False):  # the client forgets all that it has
                self._renewed = True
                self.received = Received()
                self._gone_at.clear()
                self._as_of.clear()
            case CaughtUp(position=position) | HeartbeatReply(position=position) if position:
                if epoch_of(position) > self.old_epoch:
                    self._lost, self.old_epoch = {}, 0
                    if not self._renewed:
                        what = f"{self._device.name} has {position}, and believes what is lost"
                        self._violations.add("lost", what)
            case _:
                pass

    def _fold_receipts(self, message: ServerMessage) -> None:
        match message:
            case ReceiptChanged(dialog=dialog, principal=principal, read=read):
                self._raise(dialog, principal, read)
            case DialogState(dialog=dialog, read=read, members=members):
                self._raise(dialog, self._device.principal, read)
                for member in members:
                    self._raise(dialog, member.principal, member.read)
            case TimelineEvent(dialog=dialog, seq=seq, body=MembersAdded(members=added)):
                for who in added:
                    self._raise(dialog, who, seq)
            case _:
                pass

    def _raise(self, dialog: bytes, principal: bytes, read: int) -> None:
        self.read[dialog, principal] = max(read, self.read.get((dialog, principal), 0))

    def _look_at_state(self, state: DialogState) -> None:
        before = self._on_the_wire.get(state.dialog)
        if before is None and state.member and not self._windowed:
            before = state.visible[-1][0] - 1  # of an older membership a new client knows nothing
        if before is not None and state.first_seq > before + 1:
            where = "state"
            self.received.holes.append(Hole(self._device.principal, state.dialog, before, state.first_seq, where))
        self._came[state.dialog] = state.first_seq - 1
        self._as_of_state[state.dialog] = state.seq
        self._late.pop(state.dialog, None)

    def _look_at_event(self, event: TimelineEvent) -> None:
        if event.seq > self._came.get(event.dialog, 0):
            self._came[event.dialog] = event.seq
        elif self._late.get(event.dialog, 0) < event.seq <= self._as_of_state.get(event.dialog, 0):
            self._late[event.dialog] = event.seq
        elif self._again[event.dialog, event.seq] < self._doubts_of(event):
            self._again[event.dialog, event.seq] += 1
        elif (
            not self._device.shared and not self.old_epoch
        ):  # of several nodes one may send again what a sync has brought
            self._violations.add("duplicated", f"{event} came again to {self._device.name}")
        self._look_at_row(event.dialog, event.seq, event.device, event.n, "delivered")
        if self._device.shared and event.dialog not in self._on_the_wire and self._has_left(event.dialog):
            # The snapshot is newer than what this node has heard of another: it says nothing of this dialog.
            self._on_the_wire[event.dialog] = event.seq - 1

    def _has_left(self, dialog: bytes) -> bool:
        return self._database.dialogs[dialog].role_of(self._device.principal) is None

    def _doubts_of(self, event: TimelineEvent) -> int:
        dialog = self._database.dialogs[event.dialog]
        row = dialog.find(event.seq if event.n else event.seq - 1)  # what the server adds comes with the event before
        return self._database.doubts[event.device, row.n] if row is not None else 0

    def _look_at_ack(self, acked: Acked) -> None:
        self._look_at_row(acked.dialog, acked.seq, self._device.signed_in.device, acked.n, "acked")

    def _look_at_row(self, dialog: bytes, seq: int, device: bytes, n: int, what: str) -> None:
        found = self._database.dialogs.get(dialog)
        row = found.find(seq) if found is not None else None
        lost = self._lost.get((dialog, seq))
        if lost is not None and (lost.device, lost.n) == (device, n):
            return
        if row is None or (row.device, row.n) != (device, n):
            self._violations.add("lost", f"{what} to {self._device.name} and not durable: {seq} of {dialog.hex()}")


class Device:
    """One sign-in with a connection at a time. `find_server` gives the node to connect to, if there is one."""

    def __init__(
        self,
        signed_in: SignIn,
        *,
        loop: VirtualLoop,
        clients: Process,
        dice: random.Random,
        database: Database,
        violations: Violations,
        connect: Callable[[Device], Link | None],
        shared: bool,
        heard: Callable[[str, ServerMessage], None],
        note: Callable[[str], None],
    ) -> None:
        self.signed_in = signed_in
        self.name = signed_in.name
        self.shared = shared
        self.ledger = Ledger()
        self.links = 0
        self.link: Link | None = None
        self.stopped = ""
        self._loop = loop
        self._clients = clients
        self._dice = dice
        self._database = database
        self._violations = violations
        self._connect = connect
        self.note_heard = heard
        self._note = note
        self._store = MemoryOutbox(first_n=1)
        self._witnesses: list[StrictWitness] = []
        self._lost: dict[tuple[bytes, int], Row] = {}
        self._refused: dict[int, tuple[str, int]] = {}
        """By number which node refused it for good, and when the connection to that node began."""
        self._linked_at_ms = 0
        self._ticks_at = 0.0
        self._life = 0
        self.core: ClientCore

    @property
    def principal(self) -> bytes:
        """Whose device it is."""
        return self.signed_in.principal

    @property
    def witness(self) -> StrictWitness:
        """The witness of the life at hand."""
        return self._witnesses[-1]

    @property
    def witnesses(self) -> list[StrictWitness]:
        """Those of all lives."""
        return self._witnesses

    @property
    def live(self) -> bool:
        """Whether it is connected and has caught up."""
        return self.core.state is ConnectionState.LIVE

    @property
    def settled(self) -> bool:
        """Whether it is live, nothing is on its way, and every command has its answer."""
        quiet = self.link is not None and self.link.quiet and not self.link.is_cut
        waits = self.core.statistics().pending or self.core._receipts.next_write() is not None
        return self.live and quiet and not waits

    # -- what the person does

    def start(self) -> None:
        """Begin a life: the outbox is kept, everything else is forgotten."""
        self._leave()
        self._life += 1
        witness = StrictWitness(self, self._database, self._violations)
        if self._witnesses:
            self.witness.give_lost_to(witness)
        self._witnesses.append(witness)
        self.core = ClientCore(
            self._store, WitnessedCodec(MSGPACK, witness.heard), self._dice, PlainSealer(self._store)
        )
        self.core.start()
        self._settle()

    def submit(self, command: Numbered) -> None:
        """Send a numbered command."""
        n = self.core.submit(command, self._loop.time())
        self.ledger.asked[n] = command
        self._settle()

    def say_receipt(self, dialog: bytes, seq: int) -> None:
        """Report everything up to a number as received and read."""
        self.witness.said[dialog] = max(seq, self.witness.said.get(dialog, 0))
        self.core.send_receipt(dialog, seq, seq, self._loop.time())
        self._settle()

    def ask_for_position(self) -> None:
        """Send a heartbeat."""
        self.core.request(Heartbeat(0), self._loop.time())
        self._settle()

    def take_back(self, position: str) -> None:
        """Resume from an older position than the newest next time, as from a backup of the device."""
        self.core._position = position

    def lose(self, lost: Mapping[tuple[bytes, int], Row], epoch: int) -> None:
        """A part of the history is lost, with what was acked in it."""
        self.witness.lose(lost, epoch)
        self._lost.update(lost)

    def forget_lost(self) -> None:
        """Forget the acks of what is lost. A call that a node repeats may store it again, and at another place."""
        self.ledger.forget(self._is_lost)

    def forget_overtaken(self) -> None:
        """Forget the refusals of what another node stored later: an earlier connection had sent it there, too."""
        for dialog in self._database.dialogs.values() if self.shared else ():
            for n, (node, since_ms) in self._refused.items():
                row = dialog.by_number.get((self.signed_in.device, n))
                if row is not None and row.at_ms >= since_ms and self._database.names[row.incarnation - 1] != node:
                    self.ledger.refused.pop(n, None)

    def has_answer(self, n: int) -> bool:
        """Whether a node was done with a number: later ones may pass it, and the sender may never learn why.

        It was refused for good, and that answer was lost, or it was stored, and is lost with its part of the history.
        """
        number = (self.signed_in.device, n)
        return number in self._database.refused or any((row.device, row.n) == number for row in self._lost.values())

    def _is_lost(self, acked: Acked) -> bool:
        row = self._lost.get((acked.dialog, acked.seq))
        if row is None or row.device != self.signed_in.device:
            return False
        return (row.n, row.at_ms, row.messages) == (acked.n, acked.at_ms, acked.messages)

    def drop(self) -> None:
        """End the connection, and connect again as after any other end."""
        self._leave()
        self.core.disconnected(None, self._loop.time())
        self._settle()

    def _leave(self) -> None:
        link, self.link = self.link, None
        if link is not None:
            link.close()

    # -- what the link calls

    def arrived(self, link: Link, opcode: int, payload: bytes) -> None:
        """One frame of the server."""
        if link is not self.link:
            return
        if opcode == CLOSE:
            self._leave()
            code = int.from_bytes(payload[:2], "big")
            self._note(f"{self.name} is closed with {code}")
            self.core.disconnected(code, self._loop.time())
        else:
            self.core.received(payload, self._loop.time())
        self._settle()

    def ended(self, link: Link) -> None:
        """The connection has ended."""
        if link is self.link:
            self.link = None
            self._note(f"{self.name} loses its connection")
            self.core.disconnected(None, self._loop.time())
            self._settle()

    # -- the shell

    def _settle(self) -> None:
        for action in self.core.take():
            match action:
                case SendBytes(data=data):
                    if self.link is not None:
                        self.link.send(data)
                case Emit(event=event):
                    if isinstance(event, Refused) and self.link is not None:
                        self._refused[event.n] = (self.link.server.name, self._linked_at_ms)
                    self.witness.noticed(event)
                case Connect(delay_s=delay_s):
                    self._later(min(delay_s, _RECONNECT_S_MAX), self._open)
                case CloseConnection():
                    self._leave()
                    self._later(0.0, self._closed)
                case Stop(error=error):
                    self.stopped = repr(error)
        deadline = self.core.deadline()
        if deadline is not None and (self._ticks_at <= self._loop.time() or deadline < self._ticks_at):
            self._ticks_at = deadline
            self._later(max(0.001, deadline - self._loop.time()), self._tick)

    def _later(self, delay_s: float, what: Callable[[], None]) -> None:
        life = self._life

        def run() -> None:
            if life == self._life:
                what()

        self._loop.call_later(delay_s, run, context=self._clients.context)

    def _open(self) -> None:
        if self.link is not None:
            return
        self.links += 1
        self.link = self._connect(self)
        self._linked_at_ms = self._database.clock.wall_ms()
        if self.link is None:
            self.core.connect_failed()
        else:
            self._note(f"{self.name} connects")
            self.core.connected(self.name, self._loop.time())
        self._settle()

    def _closed(self) -> None:
        self.core.disconnected(None, self._loop.time())
        self._settle()

    def _tick(self) -> None:
        if self._loop.time() >= self._ticks_at:
            self.core.tick(self._loop.time())
        self._settle()
