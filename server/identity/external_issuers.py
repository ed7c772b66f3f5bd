"""Access tokens of external issuers: `(tenant, sub)` is a principal, and each of its devices gets a sign-in of ours.

So the rules of our own sign-ins hold for theirs: their number is limited, each is listed and can be ended, and a sync
refuses an ended one although its token is still valid. A token that was issued before its sign-in was ended does not
open another sign-in; a newer token does, because then the issuer has let this person in again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from protocol import ids
from protocol.errors import ErrorCode
from protocol.limits import NAME_CHARS_MAX
from server.config.settings import IssuerSettings
from server.identity.claims import (
    EXTERNAL_LEEWAY_S,
    Claims,
    check_issued,
    check_times,
    unverified_header,
    verify_signature,
)
from server.identity.context import IdentityContext
from server.identity.jwks import FetchDocument, JwksError, KeySet
from server.identity.profiles import DEFAULT_TIMEZONE
from server.identity.rates import take_or_refuse
from server.refusals import RequestRefusedError
from storage.identity_rows import ExternalSignIn, NewProfile, Outcome
from storage.postgres.sign_ins import SignInStore
from storage.rates import Rate
from storage.unavailable import StorageUnavailableError

_SUB_CHARS_MAX = 255
_SIGN_INS_AT_ONCE = 4
"""A sign-in writes several rows: a crowd of newcomers would take PostgreSQL from those who talk."""
_REFUSALS = {
    Outcome.SUSPENDED: (ErrorCode.SUSPENDED, "suspended here"),
    Outcome.ENDED: (ErrorCode.SIGNED_OUT, "its sign-in was ended after the token was issued"),
    Outcome.DEVICE_TAKEN: (ErrorCode.WRONG_PERSON, "the device belongs to another person"),
}


class ExternalIssuers:
    """Verifies tokens of the configured issuers."""

    def __init__(self, sign_ins: SignInStore, fetch: FetchDocument, context: IdentityContext) -> None:
        """Raises StartupError when keys may not be fetched from a configured URL."""
        self._sign_ins = sign_ins
        self._context = context
        settings, rates = context.settings, context.rates
        # Each new token counts like the refresh of a sign-in, and a person may have `sign_ins_max` sign-ins.
        self._new_tokens = Rate.per_hour(
            "new tokens of external person", rates.refreshes_per_sign_in_per_h * settings.sign_ins_max
        )
        self._at_once = asyncio.Semaphore(_SIGN_INS_AT_ONCE)
        self._issuers = {
            issuer.issuer: (issuer, KeySet(issuer.jwks_url, fetch, context.clock)) for issuer in settings.issuers
        }

    def accepts(self, issuer: str) -> bool:
        """Whether tokens of this issuer are accepted at all."""
        return issuer in self._issuers

    async def verify(self, token: str, issuer: str, device: bytes | None, address: str) -> Claims:
        """The claims of a token of an accepted issuer, used by `device` at `address`.

        Opens or extends the sign-in of that device. Raises RequestRefusedError.
        """
        settings, keys = self._issuers[issuer]
        claims = await self._read_claims(token, settings, keys)
        device = _device_of(claims, device)
        await take_or_refuse(self._context.limiter, [(self._new_tokens, f"{settings.tenant} {claims['sub']}")])
        try:
            async with self._at_once:
                opened = await self._sign_in(claims, settings.tenant, device, address)
        except StorageUnavailableError as error:
            raise RequestRefusedError(ErrorCode.UNAVAILABLE, "the sign-in cannot be looked up now") from error
        if opened.outcome is not Outcome.OK:
            raise RequestRefusedError(*_REFUSALS[opened.outcome])
        self._context.close_crowded_out(opened.principal, opened.crowded_out)
        if opened.opened:
            await self._context.self_dialogs.ensure(opened.principal, device)
        return Claims(settings.tenant, opened.principal, device, opened.sign_in, int(claims["exp"]))

    async def _read_claims(self, token: str, settings: IssuerSettings, keys: KeySet) -> Mapping[str, Any]:
        try:
            key = await keys.find(unverified_header(token).get("kid"))
        except JwksError as error:
            raise RequestRefusedError(ErrorCode.UNAVAILABLE, "the issuer's keys cannot be fetched now") from error
        if key is None:
            raise RequestRefusedError(ErrorCode.TOKEN_INVALID, "signed with a key that the issuer does not publish")
        claims = verify_signature(
            token, key.key, [key.algorithm_name], issuer=settings.issuer, audience=settings.audience
        )
        now_s = self._context.clock.wall_ms() / 1000
        check_times(claims, now_s, EXTERNAL_LEEWAY_S)
        if check_issued(claims, now_s, EXTERNAL_LEEWAY_S) < now_s - self._context.settings.refresh_token_ttl_s:
            # The store remembers an ended sign-in for this long: an older token could open a forgotten one again.
            raise RequestRefusedError(ErrorCode.TOKEN_EXPIRED, "issued too long ago")
        return claims

    async def _sign_in(self, claims: Mapping[str, Any], tenant: int, device: bytes, address: str) -> ExternalSignIn:
        sub, name = claims["sub"], claims.get("name")
        if not 1 <= len(sub) <= _SUB_CHARS_MAX or not sub.isprintable():
            raise RequestRefusedError(ErrorCode.TOKEN_INVALID, f"`sub` has 1 to {_SUB_CHARS_MAX} printable characters")
        now_ms = self._context.clock.wall_ms()
        return await self._sign_ins.sign_in_by_issuer(
            now_ms,
            tenant,
            sub,
            int(claims["iat"] * 1000),
            NewProfile(
                name[:NAME_CHARS_MAX] if isinstance(name, str) and name.isprintable() else "",
                self._context.settings.locales[0],
                DEFAULT_TIMEZONE,
            ),
            sign_in=ids.new_id(),
            device=device,
            address=address,
            terms=self._context.make_sign_in_terms(now_ms),
        )


def _device_of(claims: Mapping[str, Any], named: bytes | None) -> bytes:
    """The device that the token names, else the one that the client names."""
    if "device" in claims:
        try:
            named = ids.from_text(claims["device"])
        except (ValueError, AttributeError, TypeError):
            raise RequestRefusedError(ErrorCode.TOKEN_INVALID, "`device` is not a UUID") from None
    if named is None or named == ids.NIL:
        raise RequestRefusedError(ErrorCode.INVALID_ARGUMENT, "this token names no device, so `device` is required")
    return named
