"""Access tokens of other platforms: `(tenant, sub)` is a principal, and a sign-in of ours stands for each device.

So what is true of our own sign-ins is true of theirs: at most so many are live, each is listed and can be ended, and
sync keeps out whoever's has ended, while the token is still valid. A token that was issued before its sign-in was
ended does not open another; a newer one does, because then the issuer has let that person in again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from protocol import ids
from protocol.close_codes import CloseCode
from protocol.errors import ErrorCode
from protocol.limits import NAME_CHARS_MAX
from server.clock import Clock
from server.config.settings import IdentitySettings, IssuerSettings, LimitSettings
from server.identity.jwks import FetchDocument, JwksError, KeySet
from server.identity.limits import Limits, Rate
from server.identity.ports import SessionsControl
from server.identity.profiles import DEFAULT_TIMEZONE
from server.identity.self_dialogs import SelfDialogs
from server.identity.sign_in import DAY_MS
from server.identity.tokens import Claims, ExternalTokens, TokenError, check_times, unverified_header, verified_claims
from storage.identity import IdentityStore, NewProfile, Outcome, VouchedSignIn
from storage.postgres.pool import StorageUnavailableError

_SUB_CHARS_MAX = 255
_LEEWAY_S = 60.0
"""By how much another platform's clock may be ahead of ours."""

_REFUSALS = {
    Outcome.SUSPENDED: (ErrorCode.SUSPENDED, "suspended here"),
    Outcome.ENDED: (ErrorCode.SIGNED_OUT, "its sign-in was ended after the token was issued"),
    Outcome.DEVICE_TAKEN: (ErrorCode.WRONG_PERSON, "the device is another person's"),
}


class IssuerTokens(ExternalTokens):
    """Verifies tokens of the configured issuers."""

    def __init__(
        self,
        store: IdentityStore,
        clock: Clock,
        *,
        settings: IdentitySettings,
        rates: LimitSettings,
        limits: Limits,
        fetch: FetchDocument,
        sessions: SessionsControl,
        self_dialogs: SelfDialogs,
    ) -> None:
        self._store = store
        self._clock = clock
        self._settings = settings
        self._limits = limits
        # A new token here is what a refresh is with us, and a person has so many sign-ins.
        self._rate = Rate.per_hour(
            "tokens of vouched person", rates.refreshes_per_sign_in_per_h * settings.sign_ins_max
        )
        self._sessions = sessions
        self._self_dialogs = self_dialogs
        self._issuers = {issuer.issuer: (issuer, KeySet(issuer.jwks_url, fetch, clock)) for issuer in settings.issuers}

    def knows(self, issuer: str) -> bool:
        """See `ExternalTokens`."""
        return issuer in self._issuers

    async def verify(self, token: str, issuer: str, device: bytes | None, address: str) -> Claims:
        """See `ExternalTokens`."""
        settings, keys = self._issuers[issuer]
        claims = await self._verified(token, settings, keys)
        device = _device(claims, device)
        if wait_s := await self._limits.take([(self._rate, f"{settings.tenant} {claims['sub']}")]):
            raise TokenError(ErrorCode.RATE_LIMITED, "too many new tokens of this person", retry_after_s=wait_s)
        try:
            opened = await self._sign_in(claims, settings.tenant, device, address)
        except StorageUnavailableError as error:
            raise TokenError(ErrorCode.UNAVAILABLE, "the sign-in cannot be looked up now") from error
        if opened.outcome is not Outcome.OK:
            raise TokenError(*_REFUSALS[opened.outcome])
        for sign_in in opened.crowded_out:
            self._sessions.end_sign_in(sign_in, CloseCode.TOO_MANY_SIGN_INS, "a newer sign-in took its place")
        if opened.opened:
            await self._self_dialogs.ensure(opened.principal, device)
        return Claims(settings.tenant, opened.principal, device, opened.sign_in, int(claims["exp"]))

    async def _verified(self, token: str, settings: IssuerSettings, keys: KeySet) -> Mapping[str, Any]:
        try:
            key = await keys.key(unverified_header(token).get("kid"))
        except JwksError as error:
            raise TokenError(ErrorCode.UNAVAILABLE, "the issuer's keys cannot be had now") from error
        if key is None:
            raise TokenError(ErrorCode.TOKEN_INVALID, "signed with a key that the issuer does not publish")
        claims = verified_claims(
            token, key.key, [key.algorithm_name], issuer=settings.issuer, audience=settings.audience
        )
        now_s = self._clock.wall_ms() / 1000
        check_times(claims, now_s, _LEEWAY_S)
        issued_at_s = claims.get("iat")
        if isinstance(issued_at_s, bool) or not isinstance(issued_at_s, int | float):
            raise TokenError(ErrorCode.TOKEN_INVALID, "the token does not say when it was issued (`iat`)")
        if not issued_at_s <= now_s + _LEEWAY_S:
            raise TokenError(ErrorCode.TOKEN_INVALID, "issued in the future")
        if issued_at_s < now_s - self._settings.refresh_token_ttl_s:
            # As long as an ended sign-in is remembered: an older token could bring a forgotten one back.
            raise TokenError(ErrorCode.TOKEN_EXPIRED, "issued too long ago")
        return claims

    async def _sign_in(self, claims: Mapping[str, Any], tenant: int, device: bytes, address: str) -> VouchedSignIn:
        sub, name = claims["sub"], claims.get("name")
        if not 1 <= len(sub) <= _SUB_CHARS_MAX or not sub.isprintable():
            raise TokenError(ErrorCode.TOKEN_INVALID, f"`sub` has 1 to {_SUB_CHARS_MAX} printable characters")
        now_ms = self._clock.wall_ms()
        return await self._store.sign_in_by_issuer(
            now_ms,
            tenant,
            sub,
            int(claims["iat"] * 1000),
            NewProfile(
                name[:NAME_CHARS_MAX] if isinstance(name, str) and name.isprintable() else "",
                self._settings.locales[0],
                DEFAULT_TIMEZONE,
            ),
            sign_in=ids.new_id(),
            device=device,
            address=address,
            expires_at_ms=now_ms + self._settings.refresh_token_ttl_s * 1000,
            sign_ins_max=self._settings.sign_ins_max,
            deleted_before_ms=now_ms - self._settings.deletion_grace_days * DAY_MS,
        )


def _device(claims: Mapping[str, Any], named: bytes | None) -> bytes:
    """The device that the token names, else the one that the client names."""
    if "device" in claims:
        try:
            named = ids.from_text(claims["device"])
        except (ValueError, AttributeError, TypeError):
            raise TokenError(ErrorCode.TOKEN_INVALID, "`device` is no UUID") from None
    if named is None or named == ids.NIL:
        raise TokenError(ErrorCode.INVALID_ARGUMENT, "this token names no device, so `device` is needed")
    return named
