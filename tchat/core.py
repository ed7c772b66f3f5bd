"""The client without I/O: takes bytes, time and the calls of the app, and returns actions.

    start -> Connect -> connected -> (authenticate, sync, catch-up) -> live -> disconnected -> Connect -> ...

Every input may produce actions, which `take` returns in order. Invariants:

- The app gets each event of a timeline once and in order (`tchat.ordering`).
- A numbered command is kept until its answer is final, and sealed when it leaves (`tchat.sending`).
- A new position replaces the kept one only when no event before it is missing, so that a resume loses nothing.
- Everything kept is bounded. The caller passes the time (seconds that only grow) and the random generator.
"""

from __future__ import annotations

import enum
import itertools
import random
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from protocol.bodies import Posted, TimelineEvent
from protocol.close_codes import Advice, CloseCode, advice_for
from protocol.codec import Codec, CodecError, ServerMessage
from protocol.command_rules import Command
from protocol.commands import Authenticate, Heartbeat, History, Numbered, PresenceSubscribe, Sync, Typing
from protocol.errors import ErrorCode
from protocol.events import (
    CaughtUp,
    DialogState,
    Draining,
    FromDevice,
    HeartbeatReply,
    KeySlices,
    MissedChanges,
    PresenceChanged,
    ReceiptChanged,
    TypingChanged,
)
from protocol.ids import NIL
from protocol.limits import HISTORY_EVENTS_MAX
from protocol.replies import Authenticated, Failed, HistoryPage, Reply, Synced
from tchat.actions import (
    STOPPED_BY,
    Action,
    Answered,
    ClientFaultError,
    CloseConnection,
    Connect,
    ConnectionState,
    Emit,
    IdentityKnown,
    Notification,
    Reset,
    SendBytes,
    SignInRequiredError,
    StateChanged,
    Stop,
    StoppedError,
    StoreIsBehindError,
)
from tchat.crypto.store_errors import StoreBehindError
from tchat.encryption.end_to_end import EndToEnd, Unencrypted
from tchat.ordering import Gap, Ordering
from tchat.receipts import OwnReceipts
from tchat.reconnecting import Reconnecting
from tchat.requests import Requests
from tchat.sending import Sending
from tchat.store import OutboxStore, WrongDeviceError

HANDSHAKE_S_MAX = 15.0
_HEARTBEAT_S = 20.0
"""Used until `authenticated` brings the interval of the server."""
_TOKEN_CODES = frozenset({ErrorCode.TOKEN_EXPIRED, ErrorCode.TOKEN_INVALID})


class _Phase(enum.Enum):
    DISCONNECTED = enum.auto()
    AUTHENTICATING = enum.auto()
    SYNCING = enum.auto()
    CATCHING_UP = enum.auto()
    LIVE = enum.auto()
    CLOSING = enum.auto()
    STOPPED = enum.auto()


_ONLINE = frozenset({_Phase.CATCHING_UP, _Phase.LIVE})
_SHAKING_HANDS = frozenset({_Phase.AUTHENTICATING, _Phase.SYNCING})


@dataclass(slots=True)
class CoreStatistics:
    """Counters since the start."""

    connects: int = 0
    messages_received: int = 0
    messages_sent: int = 0
    duplicates: int = 0
    gaps: int = 0
    in_flight: int = 0
    pending: int = 0
    refused_unnumbered: int = 0


class ClientCore:
    """One device's side of the protocol."""

    def __init__(
        self, store: OutboxStore, codec: Codec, rng: random.Random, encryption: EndToEnd | None = None
    ) -> None:
        self._codec = codec
        self._rng = rng
        self._encryption = encryption or Unencrypted()
        self._reconnecting = Reconnecting(rng)
        self._sending = Sending(store, rng, self._encryption)
        self._asked: dict[int, Command] = {}
        self._ordering = Ordering()
        self._requests = Requests()
        self._receipts = OwnReceipts()
        self._actions: list[Action] = []
        self._phase = _Phase.DISCONNECTED
        self._state = ConnectionState.WAITING
        self._ids = itertools.count(1)
        self._presence: PresenceSubscribe | None = None
        self._me = self._device = NIL
        self._position = self._offered = ""
        self._heartbeat_s = _HEARTBEAT_S
        self._in_flight_max = 0
        self._last_sent = self._last_heard = self._handshake_until = 0.0
        self._drain_at: float | None = None
        self._paused = False
        self._advice: Advice | None = None
        self._retry_after_s = 0.0
        self._statistics = CoreStatistics()

    # inputs from the shell and the app

    def start(self) -> None:
        """Ask for the first connection."""
        self._connect_after(0.0)

    def connected(self, token: str, now: float) -> None:
        """A websocket is open; authenticate with this access token."""
        assert self._phase is _Phase.DISCONNECTED
        self._statistics.connects += 1
        self._reconnecting.connected(now)
        self._last_heard = now
        self._handshake_until = now + HANDSHAKE_S_MAX
        self._phase = _Phase.AUTHENTICATING
        self._write(Authenticate(next(self._ids), token), now)

    def connect_failed(self) -> None:
        """The websocket could not be opened; try again after a back-off."""
        self._connect_after(self._reconnecting.backoff_s())

    def received(self, data: bytes, now: float) -> None:
        """One websocket message."""
        if self._phase in (_Phase.DISCONNECTED, _Phase.CLOSING, _Phase.STOPPED):
            return
        self._last_heard = now
        self._statistics.messages_received += 1
        try:
            message = self._codec.decode_server(data)
        except CodecError:
            self._close(CloseCode.PROTOCOL_ERROR, "a message that cannot be decoded")
            return
        if message is not None:
            self._dispatch(message, now)
        self._flush(now)

    def disconnected(self, code: int | None, now: float) -> None:
        """The websocket is closed, with this close code if there was one."""
        if self._phase in (_Phase.DISCONNECTED, _Phase.STOPPED):
            return
        self._phase = _Phase.DISCONNECTED
        self._paused = False
        self._sending.disconnected()
        self._ordering.disconnected()
        self._receipts.disconnected()
        self._asked.clear()
        self._encryption.disconnected()
        for lost in self._requests.disconnected():
            self._emit(Answered(lost, None))
        advice = self._reconnecting.weigh(self._advice or advice_for(code), now)
        delay_s, self._advice, self._retry_after_s = self._retry_after_s, None, 0.0
        if advice in STOPPED_BY:
            self._stop(STOPPED_BY[advice](_reason(code), code))
        elif advice is Advice.REFRESH:
            self._refresh()
        elif self._drain_at is not None:
            self._connect_after(max(0.0, self._drain_at - now))
        else:
            self._connect_after(max(delay_s, self._reconnecting.backoff_s()))
        self._drain_at = None

    def tick(self, now: float) -> None:
        """Act on the passed time; call this at `deadline` at the latest."""
        if self._phase in (_Phase.DISCONNECTED, _Phase.CLOSING, _Phase.STOPPED):
            return
        silent = not self._paused and now - self._last_heard >= 2 * self._heartbeat_s
        if silent or (self._phase in _SHAKING_HANDS and now >= self._handshake_until):
            self._close(CloseCode.GOING_AWAY, "the server sent nothing for too long")
        elif self._drain_at is not None and now >= self._drain_at:
            self._close(CloseCode.GOING_AWAY, "the server asked to reconnect")
        else:
            if now - self._last_sent >= 0.8 * self._heartbeat_s:
                self._write(Heartbeat(0), now)
            self._flush(now)

    def submit(self, command: Numbered, now: float, key: bytes = b"") -> int:
        """Send a numbered command exactly once, of a `key` the first only; its number. Raises `OutboxFullError`."""
        n = self._sending.submit(command, key)
        self._flush(now)
        return n

    def give_up(self, n: int) -> bool:
        """Do not send a numbered command again; False if it is sealed, under way or answered."""
        return self._sending.give_up(n)

    def seal_again(self, now: float) -> None:
        """Ask the sealer again for what it withholds, since a person has done what it waited for."""
        self._sending.seal_again()
        self._flush(now)

    def request(self, command: Command, now: float) -> int:
        """Send a command without a number; the `Answered` notification carries the returned handle.

        A read is sent again after a reconnect; `authenticate` and `sign_out` are answered with None instead.
        """
        if isinstance(command, PresenceSubscribe):
            self._presence = command
        handle = self._requests.submit(command)
        self._flush(now)
        return handle

    def send_typing(self, dialog: bytes, active: bool, now: float) -> None:
        """Report that the person is writing; dropped when not live."""
        if self._phase is _Phase.LIVE:
            self._write(Typing(0, dialog, active), now)

    def send_receipt(self, dialog: bytes, delivered: int, read: int, now: float) -> None:
        """Report how far the person has received and read; coalesced, and repeated after a reconnect."""
        self._receipts.raise_to(dialog, delivered, read)
        self._flush(now)

    def pause_reading(self) -> None:
        """The app is slow and the socket is not read: do not take silence for a dead server until `resume_reading`."""
        self._paused = True

    def resume_reading(self, now: float) -> None:
        """The socket is read again."""
        self._paused = False
        self._last_heard = now

    # outputs

    def take(self) -> list[Action]:
        """The actions since the last call, in order."""
        taken, self._actions = self._actions, []
        return taken

    def deadline(self) -> float | None:
        """When `tick` must be called, in the caller's seconds; None while there is no connection."""
        if self._phase in (_Phase.DISCONNECTED, _Phase.CLOSING, _Phase.STOPPED):
            return None
        times: list[float | None] = [self._last_sent + 0.8 * self._heartbeat_s, self._drain_at]
        if not self._paused:
            times.append(self._last_heard + 2 * self._heartbeat_s)
        if self._phase in _SHAKING_HANDS:
            times.append(self._handshake_until)
        else:
            times += [self._sending.next_resume(), self._ordering.next_retry(), self._receipts.next_write()]
            times.append(self._encryption.next_due())
        return min(at for at in times if at is not None)

    def pending(self) -> list[Numbered]:
        """Numbered commands that await a final answer, in order of number."""
        return self._sending.pending()

    @property
    def state(self) -> ConnectionState:
        """The state of the connection."""
        return self._state

    @property
    def position(self) -> str:
        """The position that the next sync sends."""
        return self._position

    def statistics(self) -> CoreStatistics:
        """Counters since the start."""
        now = self._statistics
        now.duplicates, now.gaps = self._ordering.duplicates, self._ordering.gaps
        now.in_flight, now.pending = self._sending.in_flight, self._sending.count
        return now

    # messages of the server

    def _dispatch(self, message: ServerMessage, now: float) -> None:
        match message:
            case TimelineEvent():
                self._deliver(self._ordering.accept_event(message))
            case DialogState():
                self._sending.heard(message)
                self._emit(message)
                self._deliver(self._ordering.accept_state(message))
            case MissedChanges():
                self._emit_changes(message)
            case KeySlices() | FromDevice():
                self._encryption.received(message)
            case ReceiptChanged() | TypingChanged() | PresenceChanged():
                self._emit(message)
            case HeartbeatReply(position=position) | CaughtUp(position=position):
                self._offered = position or self._offered
                if isinstance(message, CaughtUp):
                    self._caught_up()
            case Draining(spread_s=spread_s):
                self._drain_at = now + self._rng.uniform(0.0, max(0.0, spread_s))
            case Reply():
                self._replied(message, now)

    def _replied(self, reply: Reply, now: float) -> None:
        if isinstance(reply, Authenticated) and self._phase is _Phase.AUTHENTICATING:
            self._authenticated(reply, now)
        elif isinstance(reply, Synced):
            self._synced(reply, now)
        else:
            self._answered(reply, now)

    def _authenticated(self, message: Authenticated, now: float) -> None:
        try:
            self._sending.signed_in(message.principal, message.device)
        except WrongDeviceError:
            self._stop(ClientFaultError("the outbox belongs to another device"))
            return
        self._me, self._device = message.principal, message.device
        self._reconnecting.accepted()
        self._heartbeat_s = message.heartbeat_s
        self._in_flight_max = message.in_flight_max
        self._phase = _Phase.SYNCING
        self._emit(IdentityKnown(message.principal, message.device))
        self._write(Sync(next(self._ids), self._position, self._receipts.take_all()), now)

    def _synced(self, message: Synced, now: float) -> None:
        try:
            self._encryption.signed_in(self._me, self._device, message)
        except StoreBehindError as error:
            self._stop(StoreIsBehindError(str(error), message.n_max, message.key_generation))
            return
        self._phase = _Phase.CATCHING_UP
        self._change_state(ConnectionState.CATCHING_UP)
        self._offered = ""
        if not message.recovered:
            self._ordering.reset()
            self._receipts.reset()
            self._position = ""
            self._sending.reset()
            self._emit(Reset())
        if self._presence is not None:
            self._write(msgspec.structs.replace(self._presence, id=0), now)

    def _caught_up(self) -> None:
        self._phase = _Phase.LIVE
        self._reconnecting.live()
        self._ordering.caught_up()
        self._encryption.caught_up()
        self._sending.seal_again()
        self._change_state(ConnectionState.LIVE)

    def _answered(self, reply: Reply, now: float) -> None:
        if (outcome := self._sending.answered(reply, now)) is not None:
            self._tell(outcome)
            return
        if isinstance(reply, Failed) and self._phase in _SHAKING_HANDS:
            self._handshake_failed(reply)
            return
        if (asked := self._asked.pop(reply.id, None)) is not None:
            self._encryption.replied(asked, reply, now)
            self._sending.seal_again()
            return
        match self._requests.answered(reply.id):
            case None:
                self._statistics.refused_unnumbered += isinstance(reply, Failed)
            case Gap() as gap:
                self._gap_answered(gap, reply, now)
            case int(handle) if isinstance(reply, HistoryPage):
                self._emit_page(handle, reply)
            case int(handle):
                self._emit(Answered(handle, reply))

    def _handshake_failed(self, failed: Failed) -> None:
        """Authenticate or sync was refused."""
        if failed.code in _TOKEN_CODES:
            self._advice = Advice.REFRESH
        elif failed.code in (ErrorCode.SIGNED_OUT, ErrorCode.SUSPENDED):
            self._advice = Advice.SIGN_IN
        elif self._phase is _Phase.SYNCING and not failed.temporary:
            self._position = ""
        self._retry_after_s = failed.retry_after_s or 0.0
        self._close(CloseCode.GOING_AWAY, failed.code)

    def _gap_answered(self, gap: Gap, reply: Reply, now: float) -> None:
        if isinstance(reply, HistoryPage):
            self._deliver(self._ordering.accept_page(gap, reply))
        elif isinstance(reply, Failed):
            retry_at = now + (reply.retry_after_s or 1.0) if reply.temporary else None
            self._deliver(self._ordering.accept_failure(gap, retry_at))

    # writing

    def _flush(self, now: float) -> None:
        """Write everything that may leave now, and take the offered position if no event before it is missing."""
        if self._offered and self._ordering.whole:
            self._position, self._offered = self._offered, ""
        if self._phase not in _ONLINE:
            return
        for gap in self._ordering.take_gaps(now):
            history = History(0, gap.dialog, gap.from_seq, gap.to_seq, HISTORY_EVENTS_MAX, newest_first=False)
            self._requests.read(history, gap)
        for request in self._requests.take_due(self._ids):
            self._write(request, now)
        for command in self._sending.take_due(now, self._ids, self._in_flight_max):
            self._write(command, now)
        for command in self._encryption.due(now):
            key = next(self._ids)
            self._asked[key] = command
            self._write(msgspec.structs.replace(command, id=key), now)
        self._tell(self._sending.take_notices())
        self._tell(self._encryption.take_notices())
        for receipt in self._receipts.take_due(now):
            self._write(receipt, now)

    def _write(self, command: Command, now: float) -> None:
        self._last_sent = now
        self._statistics.messages_sent += 1
        self._actions.append(SendBytes(self._codec.encode(command)))

    def _deliver(self, events: list[TimelineEvent]) -> None:
        """Pass these to the app, in order, as encryption opens them."""
        for event in events:
            self._sending.heard(event)
            self._emit(self._encryption.open(event))
            if event.device == self._device:
                self._handle_own(event)

    def _handle_own(self, event: TimelineEvent) -> None:
        """Handle an event of this device: its command is durable even without the ack, and its author has read it."""
        self._tell(self._sending.seen(event))
        if isinstance(event.body, Posted):
            self._receipts.raise_to(event.dialog, event.seq, event.seq)

    def _emit(self, event: Notification) -> None:
        self._actions.append(Emit(event))

    def _tell(self, notices: Iterable[Notification]) -> None:
        self._actions.extend(Emit(notice) for notice in notices)

    def _emit_page(self, handle: int, page: HistoryPage) -> None:
        events, later = (self._encryption.open_all(events) for events in (page.events, page.later))
        self._emit(Answered(handle, msgspec.structs.replace(page, events=events, later=later)))

    def _emit_changes(self, missed: MissedChanges) -> None:
        self._emit(msgspec.structs.replace(missed, events=self._encryption.open_all(missed.events)))

    def _change_state(self, state: ConnectionState) -> None:
        if state is not self._state:
            self._state = state
            self._emit(StateChanged(state))

    # connecting and stopping

    def _close(self, code: CloseCode, reason: str) -> None:
        self._phase = _Phase.CLOSING
        self._actions.append(CloseConnection(code, reason))

    def _refresh(self) -> None:
        delay_s = self._reconnecting.token_refused_s()
        if delay_s is None:
            self._stop(SignInRequiredError("the server refused too many access tokens in a row"))
        else:
            self._connect_after(delay_s, fresh_token=True)

    def _connect_after(self, delay_s: float, *, fresh_token: bool = False) -> None:
        self._change_state(ConnectionState.WAITING if delay_s else ConnectionState.CONNECTING)
        self._actions.append(Connect(delay_s, fresh_token))

    def _stop(self, error: StoppedError) -> None:
        self._phase = _Phase.STOPPED
        self._change_state(ConnectionState.STOPPED)
        self._actions.append(Stop(error))


def _reason(code: int | None) -> str:
    try:
        return CloseCode(code or 0).meaning
    except ValueError:
        return "the connection was closed"
