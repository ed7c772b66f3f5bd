"""The clock, settings and collaborators that sign-in, external issuers and profiles share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from protocol.close_codes import CloseCode
from protocol.kinds import DAY_MS
from server.clock import Clock
from server.config.settings import IdentitySettings, RateSettings
from server.identity.ports import SessionsControl
from server.identity.self_dialogs import SelfDialogs
from server.identity.vault import Vault
from storage.identity_rows import SignInTerms
from storage.rates import RateLimiter

OWN_TENANT = 1
"""The tenant whose people sign in here; people of other tenants have an external issuer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityContext:
    """Made once for a node. `rates` are the configured numbers, `limiter` counts against them."""

    clock: Clock
    settings: IdentitySettings
    rates: RateSettings
    limiter: RateLimiter
    vault: Vault
    sessions: SessionsControl
    self_dialogs: SelfDialogs

    def make_sign_in_terms(self, now_ms: int) -> SignInTerms:
        """The terms of a sign-in that is opened or extended at `now_ms`."""
        settings = self.settings
        return SignInTerms(
            expires_at_ms=now_ms + settings.refresh_token_ttl_s * 1000,
            sign_ins_max=settings.sign_ins_max,
            deleted_before_ms=now_ms - settings.deletion_grace_days * DAY_MS,
        )

    def close_crowded_out(self, principal: bytes, sign_ins: Iterable[bytes]) -> None:
        """Close the sessions of sign-ins that a newer one ended, because the person had too many."""
        for sign_in in sign_ins:
            self.sessions.end_sign_in(principal, sign_in, CloseCode.TOO_MANY_SIGN_INS, "a newer sign-in took its place")
