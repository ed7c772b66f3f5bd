"""Signs the tokens of requests to commerce; each is for one request, which its digest names.

They are no access tokens: they have no issuer and no sign-in.
"""

from __future__ import annotations

import base64
import secrets
from typing import Any

import jwt

from protocol.commerce.contract import AUDIENCE, PERSON_AUDIENCE, TOKEN_LIFE_S
from protocol.errors import ErrorCode
from protocol.ids import to_text
from server.clock import Clock
from server.config.settings import Config
from server.identity.claims import Claims
from server.identity.rates import take_or_refuse
from server.identity.signing_keys import SigningKeys
from server.refusals import RequestRefusedError
from storage.postgres.payment_calls import PaymentCalls
from storage.rates import Rate, RateLimiter

_NOT_CONFIGURED = "payments are not configured here: the operator sets `commerce.url`"


def not_configured() -> RequestRefusedError:
    """What everything about payments is refused with where there is no commerce."""
    return RequestRefusedError(ErrorCode.UNAVAILABLE, _NOT_CONFIGURED, retry_after_s=60.0)


class CommerceTokens:
    """Signs with the key of the deployment."""

    def __init__(self, keys: SigningKeys, clock: Clock) -> None:
        self._keys = keys
        self._clock = clock

    def sign(self, claims: Claims, digest: str, device_key: bytes | None = None, *, audience: str = AUDIENCE) -> str:
        """A token for the request of this digest (`request_digest`), of the person and device of these claims."""
        now_s = self._clock.wall_ms() // 1000
        said: dict[str, Any] = {
            "aud": audience,
            "sub": to_text(claims.principal),
            "tenant": claims.tenant,
            "device": to_text(claims.device),
            "iat": now_s,
            "exp": now_s + TOKEN_LIFE_S,
            "jti": secrets.token_urlsafe(12),
            "digest": digest,
        }
        if device_key is not None:
            said["device_key"] = base64.b64encode(device_key).decode("ascii")
        return jwt.encode(said, self._keys.signing, algorithm="EdDSA", headers={"kid": self._keys.kid})


class PersonTokens:
    """Tokens with which people ask commerce themselves: what for, the chat neither sees nor judges."""

    def __init__(self, config: Config, tokens: CommerceTokens, calls: PaymentCalls, limiter: RateLimiter) -> None:
        self._configured = bool(config.commerce.url)
        self._tokens = tokens
        self._calls = calls
        self._limiter = limiter
        self._rate = Rate.per_hour("commerce tokens of person", config.limits.commerce_tokens_per_person_per_h)

    async def sign(self, claims: Claims, digest: str) -> str:
        """A token that requests and sends no payment; raises RequestRefusedError for a bot, StorageUnavailableError."""
        if not self._configured:
            raise not_configured()
        await take_or_refuse(self._limiter, [(self._rate, claims.principal)])
        device = await self._calls.read_person_device(claims.principal, claims.device)
        if device is None:
            raise RequestRefusedError(ErrorCode.NOT_ALLOWED, "this is for people; a service asks commerce with its key")
        return self._tokens.sign(claims, digest, device.ed25519, audience=PERSON_AUDIENCE)
