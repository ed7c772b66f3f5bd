"""Coming and going: authenticate, sync, heartbeat, sign out."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING

import msgspec

from protocol.close_codes import CloseCode
from protocol.commands import Authenticate, Heartbeat, SignOut, Sync
from protocol.errors import ErrorCode
from protocol.replies import Authenticated, Done, Synced
from protocol.states import SessionState
from server.identity.tokens import Claims, TokenError
from server.session.catch_up import Plan
from server.session.refusals import RefusedError
from server.writing import position
from storage.rows import SignInState, Snapshot

if TYPE_CHECKING:
    from server.session.session import Session

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
"""Of a token that was refused; of all others, AUTH_FAILED."""


def authenticate(session: Session, command: Authenticate) -> Awaitable[None] | None:
    """Check the token; at once when it is in the cache."""
    claims = session.services.tokens.cached(command.token, command.device)
    if claims is None:
        return _authenticate_slowly(session, command)
    _accept(session, command, claims)
    return None


async def _authenticate_slowly(session: Session, command: Authenticate) -> None:
    try:
        address = session.connection.address
        claims = await session.services.tokens.verify(command.token, command.device, address)
    except TokenError as error:
        session.fail(command.id, error.code, retry_after_s=error.retry_after_s)
        session.close(_CLOSE_OF_REFUSAL.get(error.code, CloseCode.AUTH_FAILED))
        return
    _accept(session, command, claims)


def _accept(session: Session, command: Authenticate, claims: Claims) -> None:
    held = session.claims
    # Of another sign-in neither: whoever ends this one must find its session under it.
    if held is not None and msgspec.structs.replace(claims, expires_at_s=held.expires_at_s) != held:
        session.fail(command.id, ErrorCode.WRONG_PERSON)
        return
    session.authenticated(claims)
    services = session.services
    session.push(
        Authenticated(
            command.id,
            claims.principal,
            claims.device,
            services.clock.wall_ms(),
            services.settings.heartbeat_s,
            services.settings.in_flight_sends_max,
            services.message_bytes_max,
        )
    )


async def sync(session: Session, command: Sync) -> None:
    """Register, take a snapshot, and begin to catch up. In this order, so that nothing falls between."""
    claims, services = session.claims, session.services
    assert claims is not None
    services.registry.attach(session)
    since = position.from_text(command.position, epoch=services.horizon.epoch, principal=claims.principal)
    snapshot = await _snapshot(session, claims, since)
    if snapshot.epoch != services.horizon.epoch:
        # Numbers may have been reissued since this node started: what clients hold is worth nothing, nor are rosters.
        services.horizon.begin(snapshot.epoch)
        services.rooms.forget()
        for other in services.registry:
            if other is not session:
                other.close(CloseCode.UNAVAILABLE)
        snapshot = await _snapshot(session, claims, None)
    if snapshot.sign_in is not SignInState.LIVE:
        services.registry.detach(session)
        code, close_code = _CLOSE_OF[snapshot.sign_in]
        session.fail(command.id, code)
        session.close(close_code)
        return
    services.registry.take_over(session)
    session.state = SessionState.LIVE
    for mark in command.marks:
        services.receipts.note(claims.principal, mark)
    session.push(Synced(command.id, snapshot.recovered))
    lasting = services.horizon.lasting(snapshot.horizon)
    session.catch_up(Plan(msgspec.structs.replace(snapshot, horizon=lasting)))


async def _snapshot(session: Session, claims: Claims, since: int | None) -> Snapshot:
    limits = session.services.sync
    return await session.services.timelines.snapshot(
        claims.principal,
        claims.sign_in,
        since,
        window=limits.window_events,
        events_max=limits.events_max,
    )


def heartbeat(session: Session, command: Heartbeat) -> None:
    """Answer a heartbeat with ours."""
    del command
    session.beat()


async def sign_out(session: Session, command: SignOut) -> None:
    """End this sign-in."""
    if session.claims is None:
        raise RefusedError(ErrorCode.WRONG_STATE)
    await session.services.sign_out(session.claims)
    session.push(Done(command.id))
    session.close(CloseCode.SIGNED_OUT)
