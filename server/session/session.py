"""The session actor: one per connection, a plain object with a mailbox, no task while idle.

Fed with whole messages, verdicts and time; says what to write and when to close. Invariants:

* Commands are taken in order. Content (send, edit, react) is handed to the pipeline without waiting for its
  verdict; any other command is finished before the next is taken.
* A sender's order is kept: once a numbered command of a dialog was refused for now (`unavailable`, `rate_limited`,
  `stale`), later ones of that dialog are refused too, until the refused `n` comes again.
* Everything is bounded: commands that wait (reading pauses), sends under way (the mailbox waits),
  bytes that wait to be written (the outbox falls behind), bad messages (the connection closes).
* A fault in a handler closes this connection with "reconnect", is logged once, and touches nobody else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import TYPE_CHECKING

import msgspec

from protocol.close_codes import CloseCode
from protocol.codec import JSON, MSGPACK, Codec, CodecError
from protocol.commands import AnyCommand, Edit, React, Send
from protocol.errors import ErrorCode
from protocol.events import Draining, HeartbeatReply
from protocol.replies import Failed
from protocol.states import SessionState, allowed
from server.delivery.outbox import Outbox
from server.delivery.prepared_message import encode_frame
from server.gateway.connection import Connection
from server.identity.tokens import Claims
from server.session import catch_up
from server.session.costs import cost
from server.session.dispatch import handle
from server.session.refusals import RETRY_AFTER_S, RefusedError
from server.session.sender_order import SenderOrder
from server.token_bucket import TokenBucket
from storage.postgres.pool import StorageUnavailableError

if TYPE_CHECKING:
    from server.session.context import Services

_log = logging.getLogger(__name__)

_BAD_MESSAGES_MAX = 20
_CONTENT = (Send, Edit, React)


class Session:
    """See the module."""

    __slots__ = (
        "__weakref__",
        "_bad_messages",
        "_beat_at",
        "_catching_up",
        "_closing",
        "_commands",
        "_drained",
        "_draining",
        "_mailbox",
        "_order",
        "_paused_at",
        "_sends",
        "_taking",
        "_working",
        "claims",
        "codec",
        "connection",
        "heard_at",
        "in_flight",
        "outbox",
        "reading",
        "services",
        "state",
        "watching",
    )

    def __init__(self, connection: Connection, services: Services) -> None:
        settings = services.settings
        now = services.clock.monotonic()
        self.connection = connection
        self.services = services
        self.codec: Codec = JSON if connection.subprotocol == JSON.subprotocol else MSGPACK
        self.state = SessionState.CONNECTED
        self.claims: Claims | None = None
        self.in_flight = 0
        self._order = SenderOrder()
        self.watching: frozenset[bytes] = frozenset()
        self.heard_at = now
        self.outbox = Outbox(
            text=self.codec.text,
            bytes_max=settings.outbox_bytes_max,
            held_max=settings.held_frames_max,
            missed_max=settings.missed_dialogs_max,
            on_dirty=self._dirty,
            on_behind=self._start_catching_up,
        )
        self._mailbox: list[AnyCommand] = []  # short; a deque would take 600 bytes even empty, in every session
        self._working: asyncio.Task[None] | None = None
        self._catching_up: asyncio.Task[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._sends = TokenBucket(settings.sends_per_s, settings.sends_burst)
        self._commands = TokenBucket(settings.commands_per_s, settings.commands_burst)
        self._beat_at = now
        self._paused_at: float | None = None
        self._bad_messages = 0
        self.reading = True
        self._draining = False
        self._taking = False  # what a command submits may be answered while it is handled
        self._closing = False
        services.wheel.hang(self, now + settings.auth_timeout_s)

    # -- what the connection calls

    def received(self, data: bytes, text: bool) -> None:
        """Take one whole message."""
        self.heard_at = self.services.clock.monotonic()
        if text is not self.codec.text:
            self.close(CloseCode.UNSUPPORTED_DATA)
            return
        try:
            command = self.codec.decode_command(data)
        except CodecError as error:
            self._refuse_bad(error)
            return
        self._mailbox.append(command)
        self._take()

    def writable(self) -> None:
        """Go on writing: the socket has drained."""
        self._paused_at = None
        self.flush()

    def closed(self) -> None:
        """Let go of everything: the connection is gone."""
        self._closing = True
        services = self.services
        services.wheel.remove(self)
        services.registry.detach(self)
        services.presence.forget(self)
        self._mailbox.clear()
        self.outbox.let_go()  # it knows us and we know it: without this only the garbage collector ends both
        for task in (self._working, self._catching_up):
            if task is not None:
                task.cancel()

    # -- writing

    def push(self, message: msgspec.Struct) -> None:
        """Queue a message for this session alone."""
        self.outbox.push(encode_frame(message, text=self.codec.text))

    def fail(
        self,
        request_id: int,
        code: ErrorCode,
        detail: str = "",
        *,
        retry_after_s: float | None = None,
        keys_seq: int | None = None,
    ) -> None:
        """Answer a command with a refusal."""
        message = f"{code.sentence} ({detail})" if detail else code.sentence
        self.push(Failed(request_id, code, message, retry_after_s, keys_seq))

    def flush(self) -> None:
        """Write what is queued, unless the socket is full."""
        if self.outbox and not self.connection.paused:
            self.connection.write(self.outbox.take())
        if self._stuck():
            return
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        if self._mailbox:
            self._take()

    def _stuck(self) -> bool:
        """Whether the socket takes nothing now; notes since when."""
        if self.connection.paused and self._paused_at is None:
            self._paused_at = self.services.clock.monotonic()
        return self.connection.paused

    async def drained(self) -> None:
        """Return once nothing waits to be written."""
        while (self.outbox or self.connection.paused) and not self._closing:
            self._drained = asyncio.get_running_loop().create_future()
            await self._drained

    def close(self, code: CloseCode, reason: str = "") -> None:
        """Say goodbye: what is queued goes out first if it can, then the close code."""
        if self._closing:
            return
        self._closing = True
        if self.outbox and not self.connection.paused:
            self.connection.write(self.outbox.take())
        self.connection.close(code, reason or code.meaning)
        self.services.registry.detach(self)

    # -- catching up

    def miss(self, dialog: bytes, seq: int) -> None:
        """Have this session read `dialog` from `seq` on from the timeline."""
        self.outbox.miss(dialog, seq)
        self.outbox.fall_behind()

    async def _catch_up(self, plan: catch_up.Plan) -> None:
        await catch_up.run(self, plan)
        self._catching_up = None  # an idle session keeps no task, not even a finished one

    def catch_up(self, plan: catch_up.Plan) -> None:
        """Send what the plan says, then go live."""
        self._catching_up = self._spawn(self._catch_up(plan))

    def _start_catching_up(self) -> None:
        self.catch_up(catch_up.Plan())

    # -- commands

    def _take(self) -> None:
        """Handle what waits, as far as it may be handled now; pause or resume reading accordingly."""
        if self._taking:
            return
        self._taking = True
        try:
            self._take_all()
        except Exception:  # noqa: BLE001 - see `_guarded`
            _log.exception("a session of %s failed", self.connection.address)
            self.close(CloseCode.INTERNAL_ERROR)
        self._taking = False
        self._balance_reading()

    def _take_all(self) -> None:
        settings = self.services.settings
        while (
            self._mailbox
            and self._working is None
            and not self._closing
            and not self._draining
            and self.in_flight < settings.in_flight_sends_max
            and self.outbox.size <= settings.outbox_bytes_max
        ):
            command = self._mailbox.pop(0)
            if self._admit(command):
                work = handle(self, command)
                if work is not None:
                    self._working = self._spawn(self._work(command, work), work)

    def _go_on(self) -> None:
        if self._draining and not self.in_flight and self._working is None:
            self.close(CloseCode.DRAINING)
        elif self._mailbox and not self._closing:
            self._take()

    def _admit(self, command: AnyCommand) -> bool:
        """Whether the command may be handled now; otherwise it has been answered with a refusal."""
        if not allowed(self.state, type(command)):
            self.fail(command.id, ErrorCode.WRONG_STATE)
            return False
        if isinstance(command, _CONTENT):
            wait_s = self._sends.spend(self.heard_at)
        else:
            wait_s = self._commands.spend(self.heard_at, cost(command))
        if wait_s > 0:
            self.refuse_for_now(command, ErrorCode.RATE_LIMITED, retry_after_s=round(wait_s, 3))
            return False
        if self.claims is not None and (first := self._order.must_come_first(command, self.claims.principal)):
            self.fail(command.id, ErrorCode.UNAVAILABLE, f"{first} of this dialog comes first", retry_after_s=0.0)
            return False
        return True

    def refuse_for_now(
        self,
        command: AnyCommand,
        code: ErrorCode,
        *,
        retry_after_s: float | None = None,
        keys_seq: int | None = None,
    ) -> None:
        """Refuse a command, and what comes later in its timeline until the same `n` comes again."""
        if self.claims is not None:
            self._order.refused(command, self.claims.principal)
            if len(self._order) > self.services.settings.mailbox_max:
                self.close(CloseCode.RATE_LIMITED)
        self.fail(command.id, code, retry_after_s=retry_after_s, keys_seq=keys_seq)

    def verdict_taken(self) -> None:
        """One send less is under way."""
        self.in_flight -= 1
        self._go_on()

    async def _work(self, command: AnyCommand, work: Awaitable[None]) -> None:
        """Finish a command that takes its time, then go on with the mailbox."""
        try:
            await work
        except RefusedError as refused:
            self.fail(command.id, refused.code, refused.detail)
        except StorageUnavailableError:
            self.refuse_for_now(command, ErrorCode.UNAVAILABLE, retry_after_s=RETRY_AFTER_S)
        self._working = None
        self._go_on()

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
            _log.exception("a session of %s failed", self.connection.address)
            self.close(CloseCode.INTERNAL_ERROR)

    def _refuse_bad(self, error: CodecError) -> None:
        self.fail(error.request_id, error.code, error.detail)
        self._bad_messages += 1
        if self._bad_messages > _BAD_MESSAGES_MAX:
            self.close(CloseCode.BAD_MESSAGE)

    def _balance_reading(self) -> None:
        waiting = len(self._mailbox)
        if self.reading and waiting >= self.services.settings.mailbox_max:
            self.reading = False
            self.connection.pause_reading()
        elif not self.reading and waiting <= self.services.settings.mailbox_max // 2:
            self.reading = True
            self.connection.resume_reading()

    # -- time

    def tick(self) -> None:
        """Look at the time: deadlines, heartbeat, the token's end. Hangs the session again."""
        services, settings = self.services, self.services.settings
        now = services.clock.monotonic()
        if self.claims is None:
            self.close(CloseCode.AUTH_TIMEOUT)
        elif self.reading and now - self.heard_at >= settings.idle_timeout_s:
            self.close(CloseCode.IDLE)
        elif services.clock.wall_ms() >= self.claims.expires_at_s * 1000:
            self.close(CloseCode.TOKEN_EXPIRED)
        elif self.outbox.overwhelmed or (
            self._paused_at is not None and now - self._paused_at >= settings.lag_timeout_s
        ):
            self.close(CloseCode.SLOW_CONSUMER)
        else:
            if now - self._beat_at >= settings.heartbeat_s:
                self.beat()
            services.wheel.hang(self, self._next_tick(now))

    def authenticated(self, claims: Claims) -> None:
        """Take the claims of a token that was checked."""
        self.claims = claims
        if self.state is SessionState.CONNECTED:
            self.state = SessionState.AUTHENTICATED
        self.services.wheel.hang(self, self._next_tick(self.heard_at))

    def beat(self) -> None:
        """Send a heartbeat; with the position to resume from, if this session is told of everything."""
        self._beat_at = self.services.clock.monotonic()
        position = ""
        if self.outbox.live and self.claims is not None:
            position = self.services.horizon.position(self.claims.principal)
        self.push(HeartbeatReply(position))

    def drain(self, spread_s: float) -> None:
        """Take no more commands, finish what is under way, tell the client to come back, and close."""
        self._draining = True
        self.push(Draining(spread_s))
        self._go_on()

    def _next_tick(self, now: float) -> float:
        assert self.claims is not None
        settings = self.services.settings
        expiry_s = self.claims.expires_at_s - self.services.clock.wall_ms() / 1000
        return now + max(0.0, min(settings.heartbeat_s, settings.lag_timeout_s, settings.idle_timeout_s, expiry_s))

    def _dirty(self) -> None:
        self.services.writes.add(self)
