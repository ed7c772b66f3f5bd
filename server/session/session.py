"""The session actor: one per connection, a plain object with a mailbox, no task while idle.

Fed with whole messages, verdicts and time; says what to write and when to close. Invariants:

* Commands are taken in order. Pipelined ones are handed to the write pipeline without waiting for their verdict; any
  other command is finished before the next is taken.
* A rate refuses nothing: what is above it waits in the mailbox, in order, until the wheel says that it may go on.
* A sender's order is kept: once a numbered command of a dialog was refused for now (`unavailable`, `stale`), later ones
  of that dialog are refused too, until the refused `n` is sent again or given up.
* Everything is bounded: commands that wait (reading pauses), sends under way (the mailbox waits), bytes that wait to be
  written (the outbox falls behind), bad messages (the connection closes). Before sign-in all of it is small.
* A fault in a handler closes this connection with "reconnect", is logged once, and touches no other session.
* Only the session writes its own fields; handlers and delivery call its methods.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from protocol.close_codes import CloseCode
from protocol.codec import JSON, MSGPACK, Codec, CodecError
from protocol.command_rules import Command
from protocol.commands import AnyCommand, Numbered
from protocol.errors import ErrorCode
from protocol.events import CaughtUp, Draining, HeartbeatReply
from protocol.limits import EARLY_MESSAGES_MAX, SEND_UNIT_BYTES
from protocol.replies import Acked, Done, Failed, Synced
from protocol.states import SessionState
from server.clock import Clock
from server.config.settings import SessionSettings
from server.delivery.flush_turn import FlushTurn
from server.delivery.outbox import Outbox
from server.delivery.presence import Presence
from server.delivery.registry import Registry
from server.gateway.connection import Connection
from server.identity.claims import Claims, log_ids
from server.refusals import DETAIL_OF, DURABLE, ERROR_OF, RETRY_AFTER_S, RequestRefusedError, sentence_of
from server.session.catch_up import CatchUp, Plan
from server.session.mailbox import NOTHING_WAITS
from server.session.rates import SessionRates
from server.session.sender_order import SenderOrder
from server.session.wheel import Slot, TimingWheel
from server.writing.horizon import Horizon
from storage.rows import Verdict, VerdictCode
from storage.unavailable import StorageUnavailableError

_log = logging.getLogger(__name__)

_EARLY_MAILBOX_MAX = 4
_REFUSED_COUNTS = 2

Handler = Callable[["Session", Any], Awaitable[None] | None]
"""Handles one command: at once, or by work that the session awaits before it takes the next command."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionContext:
    """What every session of a node uses; `handlers` by command."""

    clock: Clock
    settings: SessionSettings
    handlers: Mapping[type[Command], Handler]
    catch_up: CatchUp
    registry: Registry
    presence: Presence
    horizon: Horizon
    wheel: TimingWheel[Session]
    rates: SessionRates
    flush_turn: FlushTurn


class Session:
    """The session of one connection: the gateway's `Peer`, delivery's `Subscriber`, and the owner of its outbox."""

    __slots__ = (
        "__weakref__",
        "_catching_up",
        "_claims",
        "_closing",
        "_context",
        "_early_messages",
        "_ends_with",
        "_heard_at",
        "_heartbeat_at",
        "_in_flight",
        "_mailbox",
        "_order",
        "_paced_until",
        "_state",
        "_taking",
        "_working",
        "codec",
        "connection",
        "outbox",
        "slot",
    )

    def __init__(self, connection: Connection, context: SessionContext) -> None:
        self.connection = connection
        self.codec: Codec = JSON if connection.subprotocol == JSON.subprotocol else MSGPACK
        turn, settings, clock = context.flush_turn, context.settings, context.clock
        self.outbox = Outbox(connection, self, turn, settings, clock, text=self.codec.text)
        self.slot: Slot | None = None
        self._context = context
        self._state = SessionState.CONNECTED
        self._claims: Claims | None = None
        self._in_flight = 0
        self._order: SenderOrder | None = None
        self._mailbox = NOTHING_WAITS
        self._working: asyncio.Task[None] | None = None
        self._catching_up: asyncio.Task[None] | None = None
        self._paced_until = 0.0
        self._heard_at = self._heartbeat_at = context.clock.monotonic()
        self._early_messages = 0
        self._ends_with: CloseCode | None = None  # no more commands are taken; it ends when all have their answers
        self._taking = False  # what a command submits may be answered while it is handled
        self._closing = False

    def start(self) -> None:
        """Begin to watch the time: the client must authenticate within `auth_timeout_s`."""
        self._context.wheel.schedule(self, self._heard_at + self._context.settings.auth_timeout_s)

    # -- the session as delivery and handlers see it

    @property
    def claims(self) -> Claims:
        """What the token said. Only after authentication."""
        assert self._claims is not None
        return self._claims

    @property
    def held_claims(self) -> Claims | None:
        """What the token said; None before authentication."""
        return self._claims

    @property
    def principal(self) -> bytes:
        """Who is signed in. Only after authentication."""
        return self.claims.principal

    @property
    def device(self) -> bytes:
        """The device of this connection. Only after authentication."""
        return self.claims.device

    @property
    def sign_in(self) -> bytes:
        """The sign-in of this connection. Only after authentication."""
        return self.claims.sign_in

    # -- what the connection calls

    def received(self, data: bytes, text: bool) -> None:
        """Take one whole message."""
        self._heard_at = self._context.clock.monotonic()
        if text is not self.codec.text:
            self.close(CloseCode.UNSUPPORTED_DATA)
            return
        try:
            command = self.codec.decode_command(data)
        except CodecError as error:
            if self._forgives():  # answered even without an id: its sender may not know what it did
                self.push(Failed(error.request_id, error.code, sentence_of(error.code, error.detail)))
            return
        self._mailbox = self._mailbox.put(command, len(data))
        self._take(self._heard_at)

    def writable(self) -> None:
        """Go on writing: the socket has drained."""
        self.outbox.writable()

    def closed(self) -> None:
        """Release everything: the connection is gone."""
        self._closing = True
        self._context.wheel.remove(self)
        self._leave()
        self._context.presence.forget(self)
        self._mailbox.clear()
        self.outbox.release()  # the two hold each other: without this only the garbage collector ends both
        for task in (self._working, self._catching_up):
            if task is not None:
                task.cancel()
        self._working = self._catching_up = None  # the traceback of a cancelled task holds the session

    # -- what the outbox calls

    def fell_behind(self) -> None:
        """Read from the timeline what is no longer queued."""
        self._start_catching_up(Plan())

    def owe_position(self) -> None:
        """Send a position soon: much was written since the last one, and a cut would bring all of it again."""
        if self.outbox.live and not self._closing:
            self._context.wheel.schedule(self, self._next_tick(self._context.clock.monotonic()))

    def drained(self) -> None:
        """Go on with the mailbox, which waits while too much is queued or while the rate is used up; or end."""
        self._go_on()

    # -- answers

    def push(self, message: msgspec.Struct) -> None:
        """Queue a message for this session alone."""
        self.outbox.push(message)

    def fail(
        self,
        request_id: int,
        code: ErrorCode,
        detail: str = "",
        *,
        retry_after_s: float | None = None,
        keys_seq: int | None = None,
        awaited_n: int | None = None,
    ) -> None:
        """Answer a command with a refusal, if it wants an answer."""
        if request_id:
            self.push(Failed(request_id, code, sentence_of(code, detail), retry_after_s, keys_seq, awaited_n))

    def done(self, request_id: int) -> None:
        """Answer a command that has no result, if it wants an answer."""
        if request_id:
            self.push(Done(request_id))

    def answer(self, command: Numbered, dialog: bytes, verdict: Verdict) -> None:
        """Answer a numbered command with the verdict on it."""
        code = verdict.code
        if code in DURABLE:
            self.push(Acked(command.id, dialog, command.n, verdict.seq, verdict.at_ms, verdict.messages))
        elif code is VerdictCode.STALE:
            self._refuse_for_now(command, ErrorCode.STALE, keys_seq=verdict.keys_seq)
        elif ERROR_OF[code].temporary:
            self._refuse_for_now(command, ERROR_OF[code], retry_after_s=RETRY_AFTER_S)
        else:
            self.fail(command.id, ERROR_OF[code], DETAIL_OF.get(code, ""))

    def close(self, code: CloseCode, reason: str = "") -> None:
        """Close the connection: what is queued is written first if the socket takes it, then the close code."""
        if self._closing:
            return
        self._closing = True
        self._mailbox.clear()
        self.outbox.write_out()
        self.connection.close(code, reason or code.meaning)
        self._leave()

    def give_up(self, dialog: bytes, n: int) -> None:
        """Let later numbers of a timeline pass a refused one."""
        if self._order is not None:
            self._order.give_up(dialog, n)

    # -- the steps of a session

    def authenticate(self, claims: Claims) -> None:
        """Take the claims of a token that was checked."""
        self._claims = claims
        if self._state is SessionState.CONNECTED:
            self._state = SessionState.AUTHENTICATED
            self.connection.trust()
        self._context.wheel.schedule(self, self._next_tick(self._heard_at))

    def go_live(self, synced: Synced, plan: Plan) -> None:
        """Accept the sync: answer it, then catch up on what the plan says."""
        self._state = SessionState.LIVE
        self._heartbeat_at = self._heard_at  # the answer says as much as one
        self.push(synced)
        at_once = self._context.catch_up.try_at_once(self.outbox, plan)
        (self._end_catching_up if at_once else self._start_catching_up)(plan)

    def start_send(self) -> None:
        """Count a pipelined command that is under way; `finish_send` follows."""
        self._in_flight += 1

    def finish_send(self) -> None:
        """Count the verdict of a pipelined command, and go on with the mailbox."""
        self._in_flight -= 1
        self._go_on()

    def send_heartbeat(self) -> None:
        """Send a heartbeat, with the position to resume from if this session gets every event as it comes."""
        self._heartbeat_at = self._context.clock.monotonic()
        self.outbox.frames_since_position = 0
        position = ""
        if self.outbox.live and self._claims is not None:
            position = self._context.horizon.position_of(self._claims.principal)
        self.push(HeartbeatReply(position))

    def drain(self, spread_s: float) -> None:
        """Take no more commands, finish what is under way, ask the client to reconnect elsewhere, and close."""
        self._ends_with = CloseCode.DRAINING
        self.push(Draining(spread_s))
        self._go_on()

    def tick(self) -> None:
        """Look at the time: deadlines, heartbeat, the token's end. Schedules the next look."""
        context, settings = self._context, self._context.settings
        now = context.clock.monotonic()
        stuck_since = self.outbox.stuck_since
        if self._claims is None:
            self.close(CloseCode.AUTH_TIMEOUT)
        elif self._mailbox.reading and now - self._heard_at >= settings.idle_timeout_s:
            self.close(CloseCode.IDLE)
        elif context.clock.wall_ms() >= self._claims.expires_at_s * 1000:
            self.close(CloseCode.TOKEN_EXPIRED)
        elif self.outbox.overwhelmed or (stuck_since is not None and now - stuck_since >= settings.lag_timeout_s):
            self.close(CloseCode.SLOW_CONSUMER)
        else:
            if now >= self._heartbeat_due:
                self.send_heartbeat()
            self.drained()
            context.wheel.schedule(self, self._next_tick(now))

    # -- commands

    def _take(self, now: float) -> None:
        """Handle what waits, as far as it may be handled now; pause or resume reading accordingly."""
        if self._taking:
            return
        self._taking = True
        try:
            self._take_all(now)
        except Exception:  # noqa: BLE001 - see `_guarded`
            _log.exception("a session failed", extra=log_ids(self.connection.address, self._claims))
            self.close(CloseCode.INTERNAL_ERROR)
        self._taking = False
        mailbox = self._mailbox
        if mailbox.commands or not mailbox.reading:
            settings = self._context.settings
            count_max = _EARLY_MAILBOX_MAX if self._claims is None else settings.mailbox_max
            mailbox.balance(self.connection, count_max, settings.mailbox_bytes_max)
            self.outbox.awaited = True  # it may be what the rest waits for
        else:
            self._mailbox = NOTHING_WAITS

    def _take_all(self, now: float) -> None:
        settings, handlers, mailbox = self._context.settings, self._context.handlers, self._mailbox
        while (
            mailbox.commands
            and now >= self._paced_until
            and self._working is None
            and not self._closing
            and self._ends_with is None
            and self._in_flight < settings.in_flight_sends_max
            and self.outbox.size <= settings.outbox_bytes_max
        ):
            command, size = mailbox.commands[0]
            if wait_s := self._charge(command, size, now):
                self._pace(now, wait_s)
                return
            mailbox.drop_first()
            if self._admit(command):
                work = handlers[type(command)](self, command)
                if work is not None:
                    self._working = self._spawn(self._work(command, work), work)

    def _charge(self, command: AnyCommand, size: int, now: float) -> float:
        """Take what a command costs from the rates of its device and principal; else the seconds to wait."""
        claims, rule = self._claims, command.rule
        if claims is None:
            return 0.0
        if rule.pipelined:
            cost = 1 + size // SEND_UNIT_BYTES
            return self._context.rates.sends.spend(claims.device, claims.principal, now, cost)
        return self._context.rates.commands.spend(claims.device, claims.principal, now, rule.cost(command))

    def _pace(self, now: float, wait_s: float) -> None:
        """Take nothing more for so long. The wheel goes on at its next tick after that."""
        self._paced_until = now + wait_s
        self._context.wheel.schedule(self, self._next_tick(now))

    def _admit(self, command: AnyCommand) -> bool:
        """Whether the command may be handled now; otherwise it has been answered with a refusal."""
        if self._state not in command.rule.states:
            if self._forgives():
                self.fail(command.id, ErrorCode.WRONG_STATE)
            return False
        if self._claims is None and not self._is_early_enough(1):
            return False
        if self._order is not None and (first := self._order.first_refused(command, self.principal)):
            self.fail(command.id, ErrorCode.EARLIER_FIRST, awaited_n=first)
            return False
        return True

    def _refuse_for_now(
        self, command: Command, code: ErrorCode, *, retry_after_s: float | None = None, keys_seq: int | None = None
    ) -> None:
        """Refuse a command, and what comes later in its timeline until the same `n` is sent again or given up."""
        awaited_n = None
        if self._claims is not None:
            self._order = self._order or SenderOrder()
            awaited_n = self._order.hold_back(command, self._claims.principal)
            if len(self._order) > self._context.settings.mailbox_max and self._ends_with is None:
                self._ends_with, self.outbox.awaited = CloseCode.RATE_LIMITED, True
        if awaited_n is not None:  # an earlier number of the pipeline was refused before it
            self.fail(command.id, ErrorCode.EARLIER_FIRST, awaited_n=awaited_n)
        else:
            self.fail(command.id, code, retry_after_s=retry_after_s, keys_seq=keys_seq)

    def _go_on(self) -> None:
        if self._ends_with is not None and not self._in_flight and self._working is None:
            if self._ends_with is CloseCode.DRAINING or not self.outbox:  # a client without its acks sends all again
                self.close(self._ends_with)
            else:
                self.outbox.awaited = True
        elif self._mailbox.commands and not self._closing:
            self._take(self._context.clock.monotonic())

    async def _work(self, command: AnyCommand, work: Awaitable[None]) -> None:
        """Finish a command that takes its time, then go on with the mailbox."""
        try:
            await work
        except RequestRefusedError as refused:
            self.fail(command.id, refused.code, refused.detail, retry_after_s=refused.retry_after_s)
        except StorageUnavailableError:
            self._refuse_for_now(command, ErrorCode.UNAVAILABLE, retry_after_s=RETRY_AFTER_S)
        self._working = None
        self._go_on()

    def _forgives(self) -> bool:
        """Count a message that is no command, or none for this state; too many of those close the connection."""
        if self._claims is None:
            return self._is_early_enough(_REFUSED_COUNTS)
        if not self._context.rates.bad_messages.spend(self._claims.device, self._claims.principal, self._heard_at):
            return True
        self.close(CloseCode.BAD_MESSAGE)
        return False

    def _is_early_enough(self, count: int) -> bool:
        """Count what a connection says before it has signed in; too much closes it."""
        self._early_messages += count
        if self._early_messages <= EARLY_MESSAGES_MAX:
            return True
        self.close(CloseCode.BAD_MESSAGE)
        return False

    # -- work of its own

    def _start_catching_up(self, plan: Plan) -> None:
        self._catching_up = self._spawn(self._catch_up(plan))

    async def _catch_up(self, plan: Plan) -> None:
        try:
            live = await self._context.catch_up.run(self.outbox, self.principal, self.device, plan)
        except StorageUnavailableError as error:
            ids = log_ids(self.connection.address, self._claims)
            _log.warning("a session cannot be caught up and is closed: %s", error, extra=ids)
            self.close(CloseCode.UNAVAILABLE)
            return
        if live:
            self._end_catching_up(plan)
        else:
            self.close(CloseCode.SLOW_CONSUMER)
        self._catching_up = None  # an idle session keeps no task, not even a finished one

    def _end_catching_up(self, plan: Plan) -> None:
        if plan.horizon is not None:
            self.outbox.frames_since_position = 0
            self.push(CaughtUp(self._context.horizon.position_at(plan.horizon, self.principal)))

    def _spawn(self, work: Awaitable[None], *awaited: Awaitable[None]) -> asyncio.Task[None]:
        """Run `work`, which awaits `awaited`. Cancelled before it began, both end without a warning."""
        task = asyncio.ensure_future(self._guarded(work))

        def close(_: asyncio.Task[None]) -> None:
            for each in (work, *awaited):
                if asyncio.iscoroutine(each):
                    each.close()

        task.add_done_callback(close)
        return task

    async def _guarded(self, work: Awaitable[None]) -> None:
        try:
            await work
        except Exception:  # noqa: BLE001 - one boundary: whatever a handler raises ends this session alone
            _log.exception("a session failed", extra=log_ids(self.connection.address, self._claims))
            self.close(CloseCode.INTERNAL_ERROR)

    def _leave(self) -> None:
        if self._claims is not None:
            self._context.registry.detach(self)

    @property
    def _heartbeat_due(self) -> float:
        settings = self._context.settings
        owed = self.outbox.live and self.outbox.owes_position
        return self._heartbeat_at + (settings.position_interval_s if owed else settings.heartbeat_s)

    def _next_tick(self, now: float) -> float:
        settings = self._context.settings
        expiry_s = self.claims.expires_at_s - self._context.clock.wall_ms() / 1000
        at = now + max(0.0, min(settings.lag_timeout_s, settings.idle_timeout_s, expiry_s))
        at = min(at, max(now, self._heartbeat_due))
        return min(at, self._paced_until) if self._paced_until > now else at
