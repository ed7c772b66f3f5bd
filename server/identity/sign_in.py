"""Signing up and in by phone number and code, staying signed in by refresh tokens, and signing out.

Sign-up and sign-in are one flow, and asking for a code is answered alike for every number, so that nobody learns from
it who is here. Every guess is counted before it is compared. A refresh token is replaced at each use; for GRACE_S
after it the replaced one still yields the same successor, as long as that has not been used itself, because a phone in
a tunnel loses answers. The chain never forks, so a thief and the owner hold the same token, and the second of them to
use it later than that ends the sign-in for both.
"""

from __future__ import annotations

import logging

import msgspec

from protocol import ids
from protocol.close_codes import CloseCode
from protocol.errors import ErrorCode
from server.clock import Clock
from server.config.settings import IdentitySettings, LimitSettings
from server.identity.code_sender import CodeNotSentError, CodeSender
from server.identity.limits import Bucket, Limits, Rate, take_or_refuse
from server.identity.phone_numbers import PhoneNumber, read_phone_number
from server.identity.ports import SessionsControl
from server.identity.refusal import IdentityError
from server.identity.self_dialogs import SelfDialogs
from server.identity.tokens import Tokens
from server.identity.vault import Vault, new_code, new_refresh_token, same, sign_in_of, token_hash
from server.networks import network_of
from storage.identity import (
    IdentityStore,
    NewDevice,
    NewProfile,
    OpenedSignIn,
    Outcome,
    PhoneRow,
    RefreshedSignIn,
    SignInRow,
)

_log = logging.getLogger(__name__)

OWN_TENANT = 1
"""Whom our own sign-in is for; other tenants bring issuers of their own."""
GRACE_S = 60
DAY_MS = 86_400_000
_SEND_AGAIN_AFTER_S = 10.0

_REFUSALS = {
    Outcome.CODE_USED: (ErrorCode.CODE_EXPIRED, ""),
    Outcome.NAME_NEEDED: (ErrorCode.INVALID_ARGUMENT, "display_name: needed to sign up; the code stays valid"),
    Outcome.SUSPENDED: (ErrorCode.SUSPENDED, ""),
    Outcome.ENDED: (ErrorCode.SIGNED_OUT, ""),
    Outcome.REUSED: (ErrorCode.SIGNED_OUT, "this refresh token was used before, so its sign-in has been ended"),
    Outcome.UNKNOWN: (ErrorCode.TOKEN_INVALID, "there is no such refresh token"),
    Outcome.EXPIRED: (ErrorCode.TOKEN_EXPIRED, "the refresh token has expired; sign in again"),
}


class Installation(msgspec.Struct, frozen=True):
    """The client that signs in, in its own words; `device` None asks for a new id."""

    device: bytes | None
    platform: str
    app_version: str
    name: str
    address: str


class SignedIn(msgspec.Struct, frozen=True):
    """An open sign-in and its tokens. `device` may differ from the one that was named: then that was another's."""

    principal: bytes
    device: bytes
    sign_in: bytes
    access_token: str
    expires_in_s: int
    refresh_token: str


class SignInFlow:
    """Opens, prolongs, lists and ends sign-ins."""

    def __init__(
        self,
        store: IdentityStore,
        clock: Clock,
        *,
        settings: IdentitySettings,
        rates: LimitSettings,
        limits: Limits,
        vault: Vault,
        tokens: Tokens,
        sender: CodeSender | None,
        sessions: SessionsControl,
        self_dialogs: SelfDialogs,
    ) -> None:
        self._store = store
        self._clock = clock
        self._settings = settings
        self._limits = limits
        self._vault = vault
        self._tokens = tokens
        self._sender = sender
        self._sessions = sessions
        self._self_dialogs = self_dialogs
        self._codes = (
            Rate.per_hour("codes of number", rates.codes_per_number_per_h),
            Rate.per_hour("codes of address", rates.codes_per_address_per_h),
            Rate.per_hour("codes of device", rates.codes_per_device_per_h),
        )
        self._guesses = (
            Rate.per_hour("guesses of number", rates.wrong_codes_per_number_per_h),
            Rate.per_hour("guesses of address", rates.wrong_codes_per_address_per_h),
            Rate.per_hour("guesses of device", rates.wrong_codes_per_device_per_h),
        )
        self._refreshes = Rate.per_hour("refreshes of sign-in", rates.refreshes_per_sign_in_per_h)

    async def send_code(self, phone_number: str, device: bytes | None, address: str) -> None:
        """Send a new code to a number, whoever has it; raises IdentityError."""
        if self._sender is None:
            raise IdentityError(ErrorCode.NOT_ALLOWED, "nobody signs in by phone number here")
        number = read_phone_number(phone_number, self._settings.countries)
        phone_hash = self._vault.phone_hash(OWN_TENANT, number.e164)
        await take_or_refuse(self._limits, _buckets(self._codes, phone_hash, address, device))
        code = new_code()
        await self._store.put_code(
            OWN_TENANT,
            phone_hash,
            self._vault.code_hash(phone_hash, code),
            attempts=self._settings.code_attempts_max,
            expires_at_ms=self._clock.wall_ms() + self._settings.code_ttl_s * 1000,
        )
        try:
            await self._sender.send(number.e164, code)
        except CodeNotSentError as error:
            _log.warning("a sign-in code could not be sent: %s", error)
            raise IdentityError(
                ErrorCode.UNAVAILABLE, "the code could not be sent", retry_after_s=_SEND_AGAIN_AFTER_S
            ) from error

    async def sign_in(self, phone_number: str, code: str, profile: NewProfile, client: Installation) -> SignedIn:
        """Sign in, or up, with the code that was sent; raises IdentityError."""
        number = read_phone_number(phone_number, self._settings.countries)
        phone_hash = self._vault.phone_hash(OWN_TENANT, number.e164)
        code_hash = await self._guess(phone_hash, code, client)

        now_ms = self._clock.wall_ms()
        sign_in = ids.new_id()
        refresh_token = new_refresh_token(sign_in)
        opened = await self._store.sign_in_by_code(
            now_ms,
            OWN_TENANT,
            self._row(phone_hash, number),
            code_hash,
            profile,
            device=_new_device(client),
            sign_in=sign_in,
            refresh_hash=token_hash(refresh_token),
            expires_at_ms=now_ms + self._settings.refresh_token_ttl_s * 1000,
            sign_ins_max=self._settings.sign_ins_max,
            deleted_before_ms=now_ms - self._settings.deletion_grace_days * DAY_MS,
        )
        _refuse_unless_ok(opened.outcome)
        self._close_superseded(opened)
        await self._self_dialogs.ensure(opened.principal, opened.device)
        return self._signed_in(OWN_TENANT, opened.principal, opened.device, sign_in, refresh_token)

    async def refresh(self, refresh_token: str, address: str) -> SignedIn:
        """New tokens for a refresh token, which is used up; raises IdentityError."""
        if (claimed := sign_in_of(refresh_token)) is None:
            raise IdentityError(ErrorCode.TOKEN_INVALID, "that is no refresh token")
        await take_or_refuse(self._limits, [(self._refreshes, claimed)])
        successor = self._vault.successor(refresh_token)
        now_ms = self._clock.wall_ms()
        row = await self._store.refresh(
            now_ms,
            token_hash(refresh_token),
            token_hash(successor),
            address=address,
            expires_at_ms=now_ms + self._settings.refresh_token_ttl_s * 1000,
            grace_ms=GRACE_S * 1000,
        )
        if row.outcome is Outcome.REUSED:
            self._warn_of_reuse(row)
        _refuse_unless_ok(row.outcome)
        return self._signed_in(row.tenant, row.principal, row.device, row.sign_in, successor)

    async def list_live(self, principal: bytes) -> list[SignInRow]:
        """Somebody's live sign-ins."""
        return await self._store.list_sign_ins(self._clock.wall_ms(), principal)

    async def end(self, principal: bytes, sign_in: bytes) -> None:
        """End one of somebody's sign-ins, and close its sockets; nothing happens when it is not theirs or has ended."""
        if await self._store.end_sign_in(self._clock.wall_ms(), principal, sign_in):
            self._sessions.end_sign_in(sign_in, CloseCode.SIGNED_OUT, "signed out")

    async def end_others(self, principal: bytes, keep: bytes) -> int:
        """End all of somebody's sign-ins but one, and close their sockets; returns how many."""
        ended = await self._store.end_other_sign_ins(self._clock.wall_ms(), principal, keep)
        for sign_in in ended:
            self._sessions.end_sign_in(sign_in, CloseCode.SIGNED_OUT, "signed out from another device")
        return len(ended)

    async def _guess(self, phone_hash: bytes, code: str, client: Installation) -> bytes:
        """The hash of the right code; a wrong one costs a guess of number, address and device."""
        buckets = _buckets(self._guesses, phone_hash, client.address, client.device)
        await take_or_refuse(self._limits, buckets)
        kept = await self._store.spend_attempt(self._clock.wall_ms(), OWN_TENANT, phone_hash)
        if kept is None:
            raise IdentityError(ErrorCode.CODE_EXPIRED)
        guessed = self._vault.code_hash(phone_hash, code)
        if not same(kept, guessed):
            raise IdentityError(ErrorCode.CODE_WRONG)
        await self._limits.give_back(buckets)
        return guessed

    def _row(self, phone_hash: bytes, number: PhoneNumber) -> PhoneRow:
        key, box = self._vault.seal(number.e164)
        return PhoneRow(phone_hash, key, box, number.country)

    def _close_superseded(self, opened: OpenedSignIn) -> None:
        for sign_in in opened.crowded_out:
            self._sessions.end_sign_in(sign_in, CloseCode.TOO_MANY_SIGN_INS, "a newer sign-in took its place")
        for sign_in in opened.replaced:
            self._sessions.end_sign_in(sign_in, CloseCode.REPLACED, "this device signed in again")

    def _warn_of_reuse(self, row: RefreshedSignIn) -> None:
        _log.warning("a used refresh token came again: sign-in %s ended", ids.to_text(row.sign_in))
        self._sessions.end_sign_in(row.sign_in, CloseCode.SIGNED_OUT, "its refresh token was used twice")

    def _signed_in(self, tenant: int, principal: bytes, device: bytes, sign_in: bytes, refresh_token: str) -> SignedIn:
        token = self._tokens.issue(tenant=tenant, principal=principal, device=device, sign_in=sign_in)
        return SignedIn(principal, device, sign_in, token, self._tokens.ttl_s, refresh_token)


def _new_device(client: Installation) -> NewDevice:
    spare = ids.new_id()
    return NewDevice(client.device or spare, spare, client.platform, client.app_version, client.name, client.address)


def _buckets(rates: tuple[Rate, Rate, Rate], number: bytes, address: str, device: bytes | None) -> list[Bucket]:
    of_number, of_address, of_device = rates
    buckets: list[Bucket] = [(of_number, number), (of_address, network_of(address))]
    if device is not None:
        buckets.append((of_device, device))
    return buckets


def _refuse_unless_ok(outcome: Outcome) -> None:
    if outcome is not Outcome.OK:
        raise IdentityError(*_REFUSALS[outcome])
