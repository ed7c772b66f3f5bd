"""The begin and end of a session: authenticate, sync, heartbeat, sign out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from protocol.close_codes import CloseCode
from protocol.commands import Authenticate, Heartbeat, SignOut, Sync
from protocol.errors import ErrorCode
from protocol.replies import Authenticated, Synced
from server.clock import Clock
from server.config.settings import Config
from server.delivery.device_messages import DeviceMessageDelivery
from server.delivery.receipts import Receipts
from server.delivery.registry import Registry
from server.identity.claims import Claims
from server.identity.tokens import Tokens
from server.refusals import RequestRefusedError
from server.session.catch_up import Plan
from server.session.session import Session
from server.writing.horizon import Horizon
from storage.rows import SignInState, Snapshot
from storage.timelines import Timelines

_CLOSE_OF = {
    SignInState.REVOKED: (ErrorCode.SIGNED_OUT, CloseCode.SIGNED_OUT),
    SignInState.SUSPENDED: (ErrorCode.SUSPENDED, CloseCode.SUSPENDED),
    SignInState.DELETED: (ErrorCode.SUSPENDED, CloseCode.DELETED),
}

_CLOSE_OF_REFUSAL = {
    ErrorCode.TOKEN_EXPIRED: CloseCode.TOKEN_EXPIRED,
    ErrorCode.SIGNED_OUT: CloseCode.SIGNED_OUT,
    ErrorCode.SUSPENDED: CloseCode.SUSPENDED,
    ErrorCode.UNAVAILABLE: CloseCode.UNAVAILABLE,
    ErrorCode.RATE_LIMITED: CloseCode.RATE_LIMITED,
}
"""The close code after a token was refused; for all other refusals, AUTH_FAILED."""


class Lifecycle:
    """Handlers of the commands that begin and end a session.

    `sign_out` ends a sign-in in the store. `begin_epoch(epoch, session)` makes the whole node begin an epoch and closes
    every other session. `arrive`, where nodes share the database, has the others find the session from now on, and
    `taken_over` tells them that it is the connection of its device.
    """

    def __init__(
        self,
        config: Config,
        clock: Clock,
        *,
        tokens: Tokens,
        timelines: Timelines,
        registry: Registry,
        receipts: Receipts,
        horizon: Horizon,
        device_messages: DeviceMessageDelivery,
        sign_out: Callable[[Claims], Awaitable[None]],
        begin_epoch: Callable[[int, Session], None],
        arrive: Callable[[Session, bytes], Awaitable[None]] | None = None,
        taken_over: Callable[[Session], None] | None = None,
    ) -> None:
        self._config = config
        self._clock = clock
        self._tokens = tokens
        self._timelines = timelines
        self._registry = registry
        self._receipts = receipts
        self._horizon = horizon
        self._device_messages = device_messages
        self._sign_out = sign_out
        self._begin_epoch = begin_epoch
        self._arrive = arrive
        self._taken_over = taken_over

    def authenticate(self, session: Session, command: Authenticate) -> Awaitable[None] | None:
        """Check the token; at once when it is in the cache."""
        claims = self._tokens.find_cached(command.token, command.device)
        if claims is None:
            return self._verify(session, command)
        self._accept(session, command, claims)
        return None

    async def sync(self, session: Session, command: Sync) -> None:
        """Register, take a snapshot, and begin to catch up. In this order, so that no event falls in between."""
        claims = session.claims
        self._registry.attach(session)
        if self._arrive is not None:
            await self._arrive(session, claims.principal)
        position = self._horizon.read_position(command.position, claims.principal)
        snapshot = await self._take_snapshot(claims, self._horizon.since(position))
        if snapshot.epoch != self._horizon.epoch:
            self._begin_epoch(snapshot.epoch, session)
            snapshot = await self._take_snapshot(claims, None)
        if snapshot.sign_in is not SignInState.LIVE:
            self._registry.detach(session)
            code, close_code = _CLOSE_OF[snapshot.sign_in]
            session.fail(command.id, code)
            session.close(close_code)
            return
        if not self._registry.take_over(session):
            return
        if self._taken_over is not None:
            self._taken_over(session)
        if position is None or position.epoch == self._horizon.epoch:  # else its numbers are of other events
            for high_water in command.receipts:
                self._receipts.note(claims.principal, high_water)
        keys = snapshot.keys
        synced = Synced(command.id, snapshot.recovered, keys.n_max, keys.generation, keys.one_time, keys.fallback_used)
        session.go_live(synced, Plan(snapshot))
        if keys.generation:  # a device without keys is not written to
            self._device_messages.push(session)

    def heartbeat(self, session: Session, command: Heartbeat) -> None:
        """Answer a heartbeat with ours."""
        session.send_heartbeat()
        session.done(command.id)

    async def sign_out(self, session: Session, command: SignOut) -> None:
        """End this sign-in."""
        await self._sign_out(session.claims)
        session.done(command.id)
        session.close(CloseCode.SIGNED_OUT)

    async def _verify(self, session: Session, command: Authenticate) -> None:
        try:
            claims = await self._tokens.verify(command.token, command.device, session.connection.address)
        except RequestRefusedError as error:
            session.fail(command.id, error.code, retry_after_s=error.retry_after_s)
            session.close(_CLOSE_OF_REFUSAL.get(error.code, CloseCode.AUTH_FAILED))
            return
        self._accept(session, command, claims)

    def _accept(self, session: Session, command: Authenticate, claims: Claims) -> None:
        held = session.held_claims
        # Refuse a token of another sign-in: ending a sign-in must find this session by its id.
        if held is not None and msgspec.structs.replace(claims, expires_at_s=held.expires_at_s) != held:
            session.fail(command.id, ErrorCode.WRONG_PERSON)
            return
        session.authenticate(claims)
        if held is None:
            self._registry.await_sync(session)
        sessions = self._config.sessions
        session.push(
            Authenticated(
                command.id,
                claims.principal,
                claims.device,
                self._clock.wall_ms(),
                sessions.heartbeat_s,
                sessions.in_flight_sends_max,
                self._config.gateway.message_bytes_max,
                sessions.sends_per_s,
                sessions.sends_burst,
                sessions.commands_per_s,
                sessions.commands_burst,
            )
        )

    async def _take_snapshot(self, claims: Claims, since: int | None) -> Snapshot:
        limits = self._config.sync
        return await self._timelines.take_snapshot(
            claims.principal,
            claims.sign_in,
            since,
            window=limits.window_events,
            events_max=limits.events_max,
        )
