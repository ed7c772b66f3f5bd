"""Signing up and in by phone number and code, staying signed in by refresh tokens, and signing out.

Sign-up and sign-in are one flow, and the answer to a request for a code is the same for every number, so that it does
not reveal who is registered (`codes.py`). A refresh token is replaced at each use. For GRACE_S after that, and until
its successor is used, the replaced token still yields the same successor, because a client on a bad network loses
answers. The chain never forks: a thief and the owner hold the same token, and the second of them to use it after the
grace ends the sign-in for both.
"""

from __future__ import annotations

import logging

import msgspec

from protocol import ids
from protocol.close_codes import CloseCode
from protocol.errors import ErrorCode
from server.identity.claims import Claims
from server.identity.codes import OneTimeCodes
from server.identity.context import OWN_TENANT, IdentityContext
from server.identity.phone_numbers import PhoneNumber, read_phone_number
from server.identity.rates import take_or_refuse
from server.identity.tokens import Tokens
from server.identity.vault import hash_token, new_refresh_token, sign_in_of
from server.refusals import RequestRefusedError
from storage.identity_rows import (
    CallerRow,
    NewDevice,
    NewProfile,
    OpenedSignIn,
    Outcome,
    PhoneRow,
    RefreshedSignIn,
    SignInRow,
)
from storage.postgres.sign_ins import SignInStore
from storage.rates import Rate
from storage.rows import PrincipalStatus

_log = logging.getLogger(__name__)

GRACE_S = 60

_REFUSALS = {
    Outcome.CODE_USED: (ErrorCode.CODE_WRONG, ""),
    Outcome.NAME_NEEDED: (ErrorCode.INVALID_ARGUMENT, "display_name: needed to sign up; the code stays valid"),
    Outcome.SUSPENDED: (ErrorCode.SUSPENDED, ""),
    Outcome.ENDED: (ErrorCode.SIGNED_OUT, ""),
    Outcome.REUSED: (ErrorCode.SIGNED_OUT, "this refresh token was used twice, so its sign-in has been ended"),
    Outcome.UNKNOWN: (ErrorCode.TOKEN_INVALID, "there is no such refresh token"),
    Outcome.EXPIRED: (ErrorCode.TOKEN_EXPIRED, "the refresh token has expired; sign in again"),
}


class Installation(msgspec.Struct, frozen=True):
    """The client that signs in, as it describes itself; `device` None asks for a new id."""

    device: bytes | None
    platform: str
    app_version: str
    name: str
    address: str


class IssuedTokens(msgspec.Struct, frozen=True):
    """An open sign-in and its tokens. `device` differs from the named one when that belongs to another principal."""

    principal: bytes
    device: bytes
    sign_in: bytes
    access_token: str
    expires_in_s: int
    refresh_token: str


class SignInFlow:
    """Opens, extends, checks, lists and ends sign-ins."""

    def __init__(self, sign_ins: SignInStore, tokens: Tokens, codes: OneTimeCodes, context: IdentityContext) -> None:
        self._sign_ins = sign_ins
        self._tokens = tokens
        self._codes = codes
        self._context = context
        self._refreshes = Rate.per_hour("refreshes of sign-in", context.rates.refreshes_per_sign_in_per_h)

    async def send_code(self, phone_number: str, address: str) -> bytes:
        """Send a new code to a number, registered or not; returns the code's id. Raises RequestRefusedError."""
        number = read_phone_number(phone_number, self._context.settings.countries)
        return await self._codes.send(number, self._context.vault.hash_phone(OWN_TENANT, number.e164), address)

    async def sign_in(
        self, phone_number: str, code: str, code_id: bytes | None, profile: NewProfile, client: Installation
    ) -> IssuedTokens:
        """Sign in or up with a code; without `code_id`, the one requested from the same network.

        Raises RequestRefusedError.
        """
        number = read_phone_number(phone_number, self._context.settings.countries)
        phone_hash = self._context.vault.hash_phone(OWN_TENANT, number.e164)
        pending = await self._codes.check(phone_hash, code, client.address, code_id)

        now_ms = self._context.clock.wall_ms()
        sign_in = ids.new_id()
        refresh_token = new_refresh_token(sign_in)
        opened = await self._sign_ins.sign_in_by_code(
            now_ms,
            OWN_TENANT,
            self._phone_row(phone_hash, number),
            pending.code_id,
            profile,
            device=_new_device(client),
            sign_in=sign_in,
            refresh_hash=hash_token(refresh_token),
            terms=self._context.make_sign_in_terms(now_ms),
        )
        _refuse_unless_ok(opened.outcome)
        await self._codes.forgive(phone_hash, pending)
        self._close_superseded(opened)
        await self._context.self_dialogs.ensure(opened.principal, opened.device)
        return self._issue(OWN_TENANT, opened.principal, opened.device, sign_in, refresh_token)

    async def refresh(self, refresh_token: str, address: str) -> IssuedTokens:
        """New tokens for a refresh token, which is used up by this; raises RequestRefusedError."""
        if (claimed := sign_in_of(refresh_token)) is None:
            raise RequestRefusedError(ErrorCode.TOKEN_INVALID, "this is not a refresh token")
        await take_or_refuse(self._context.limiter, [(self._refreshes, claimed)])
        successor = self._context.vault.derive_successor(refresh_token)
        now_ms = self._context.clock.wall_ms()
        row = await self._sign_ins.refresh(
            now_ms,
            hash_token(refresh_token),
            hash_token(successor),
            address=address,
            expires_at_ms=now_ms + self._context.settings.refresh_token_ttl_s * 1000,
            grace_ms=GRACE_S * 1000,
        )
        if row.outcome is Outcome.REUSED:
            self._end_reused(row)
        _refuse_unless_ok(row.outcome)
        return self._issue(row.tenant, row.principal, row.device, row.sign_in, successor)

    async def check_live(self, claims: Claims) -> CallerRow:
        """The caller of valid claims; raises RequestRefusedError unless they are active and their sign-in is live."""
        row = await self._sign_ins.read_caller(self._context.clock.wall_ms(), claims.principal, claims.sign_in)
        if row is not None and row.status is PrincipalStatus.SUSPENDED:
            raise RequestRefusedError(ErrorCode.SUSPENDED)
        if row is None or not row.live or row.status is not PrincipalStatus.ACTIVE:
            raise RequestRefusedError(ErrorCode.SIGNED_OUT)
        return row

    async def list_live(self, principal: bytes) -> list[SignInRow]:
        """The live sign-ins of a person, newest first."""
        return await self._sign_ins.list_live(self._context.clock.wall_ms(), principal)

    async def end(self, principal: bytes, sign_in: bytes) -> None:
        """End one sign-in of a person and close its sessions; nothing happens if it is not theirs or has ended."""
        if await self._sign_ins.end(self._context.clock.wall_ms(), principal, sign_in):
            self._context.sessions.end_sign_in(principal, sign_in, CloseCode.SIGNED_OUT, "signed out")

    async def end_others(self, principal: bytes, keep: bytes) -> None:
        """End all sign-ins of a person but one, and close their sessions."""
        for sign_in in await self._sign_ins.end_others(self._context.clock.wall_ms(), principal, keep):
            self._context.sessions.end_sign_in(
                principal, sign_in, CloseCode.SIGNED_OUT, "signed out from another device"
            )

    def _phone_row(self, phone_hash: bytes, number: PhoneNumber) -> PhoneRow:
        key, box = self._context.vault.seal(number.e164)
        return PhoneRow(phone_hash, key, box, number.country)

    def _close_superseded(self, opened: OpenedSignIn) -> None:
        self._context.close_crowded_out(opened.principal, opened.crowded_out)
        for sign_in in opened.replaced:
            self._context.sessions.end_sign_in(
                opened.principal, sign_in, CloseCode.REPLACED, "this device signed in again"
            )

    def _end_reused(self, row: RefreshedSignIn) -> None:
        _log.warning("a refresh token was used twice: its sign-in ended", extra={"sign_in": ids.to_text(row.sign_in)})
        self._context.sessions.end_sign_in(
            row.principal, row.sign_in, CloseCode.SIGNED_OUT, "its refresh token was used twice"
        )

    def _issue(self, tenant: int, principal: bytes, device: bytes, sign_in: bytes, refresh_token: str) -> IssuedTokens:
        token = self._tokens.issue(tenant=tenant, principal=principal, device=device, sign_in=sign_in)
        return IssuedTokens(principal, device, sign_in, token, self._tokens.ttl_s, refresh_token)


def _new_device(client: Installation) -> NewDevice:
    spare = ids.new_id()
    return NewDevice(client.device or spare, spare, client.platform, client.app_version, client.name, client.address)


def _refuse_unless_ok(outcome: Outcome) -> None:
    if outcome is not Outcome.OK:
        raise RequestRefusedError(*_REFUSALS[outcome])
