"""Access tokens: they prove who speaks by a signature, without a database query.

Our own are JWTs (RFC 7519) signed with EdDSA (RFC 8037). Invariants: the key decides the algorithm, never the token;
issuer, audience, form and signature are checked before any claim is believed; claims are cached by the SHA-256 of the
token, never longer than the token is valid; in one turn of the event loop few signatures are verified. A valid one does
not mean that the sign-in is live: the HTTP API asks the store for each request, a sync in its own query.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets

import jwt
import msgspec

from protocol import ids
from protocol.errors import ErrorCode
from server.clock import Clock
from server.identity.claims import Claims, check_times, unverified_header, unverified_issuer, verify_signature
from server.identity.external_issuers import ExternalIssuers
from server.identity.signing_keys import SigningKeys
from server.refusals import RequestRefusedError

CACHE_TOKENS_MAX = 100_000
_VERIFIED_PER_TURN = 2
"""A verification takes 0.1 to 0.3 ms: all of a reconnect storm at once would hold up everybody."""
_OWN_ALGORITHMS = ["EdDSA"]


class Tokens:
    """Issues our tokens; verifies ours and those of external issuers."""

    def __init__(
        self,
        keys: SigningKeys,
        clock: Clock,
        *,
        issuer: str,
        audience: str,
        ttl_s: int,
        external_issuers: ExternalIssuers | None = None,
        cache_tokens_max: int = CACHE_TOKENS_MAX,
    ) -> None:
        self.keys = keys
        self.ttl_s = ttl_s
        self._clock = clock
        self._issuer = issuer
        self._audience = audience
        self._external_issuers = external_issuers
        self._cache: dict[bytes, Claims] = {}  # in two generations: the older one is dropped as a whole
        self._older: dict[bytes, Claims] = {}
        self._cache_tokens_max = cache_tokens_max
        self._turns = asyncio.Semaphore(_VERIFIED_PER_TURN)

    def issue(self, *, tenant: int, principal: bytes, device: bytes, sign_in: bytes) -> str:
        """A new token of ours, valid for `ttl_s` from now."""
        now_s = self._clock.wall_ms() // 1000
        claims = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": ids.to_text(principal),
            "device": ids.to_text(device),
            "sign_in": ids.to_text(sign_in),
            "tenant": tenant,
            "iat": now_s,
            "exp": now_s + self.ttl_s,
            "jti": secrets.token_urlsafe(12),  # two tokens of one second differ, so a client sees that it got a new one
        }
        return jwt.encode(claims, self.keys.signing, algorithm="EdDSA", headers={"kid": self.keys.kid})

    def find_cached(self, token: str, device: bytes | None = None) -> Claims | None:
        """The claims of a token that was verified before and is still valid; `device` as for `verify`."""
        for key in _cache_keys(token, device):
            claims = self._cache.get(key)
            if claims is None and (claims := self._older.pop(key, None)) is not None:
                self._keep(key, claims)
            if claims is not None:
                if claims.expires_at_s * 1000 > self._clock.wall_ms():
                    return claims
                del self._cache[key]
        return None

    async def verify(self, token: str, device: bytes | None = None, address: str = "") -> Claims:
        """The claims of a valid token; raises RequestRefusedError.

        `device` is the device that the client names: required with a token of an external issuer without a `device`
        claim, ignored when the token names a device. `address` is kept with a new sign-in, for the person to see.
        """
        if (claims := self.find_cached(token, device)) is not None:
            return claims
        async with self._turns:
            await asyncio.sleep(0)
        issuer = unverified_issuer(token)
        if issuer == self._issuer:
            claims = self._verify_own(token)
            self._keep(_cache_keys(token, None)[0], claims)
        elif self._external_issuers is not None and self._external_issuers.accepts(issuer):
            claims = await self._external_issuers.verify(token, issuer, device, address)
            self._keep(_cache_keys(token, device)[-1], claims)
        else:
            raise RequestRefusedError(ErrorCode.TOKEN_INVALID, "the issuer is not accepted here")
        return claims

    def _verify_own(self, token: str) -> Claims:
        key = self.keys.find_accepted(unverified_header(token).get("kid"))
        if key is None:
            raise RequestRefusedError(ErrorCode.TOKEN_INVALID, "signed with a key that is not in use")
        claims = verify_signature(token, key, _OWN_ALGORITHMS, issuer=self._issuer, audience=self._audience)
        check_times(claims, self._clock.wall_ms() / 1000)
        try:
            return Claims(
                tenant=msgspec.convert(claims["tenant"], int),
                principal=ids.from_text(claims["sub"]),
                device=ids.from_text(claims["device"]),
                sign_in=ids.from_text(claims["sign_in"]),
                expires_at_s=int(claims["exp"]),
            )
        except (KeyError, ValueError, AttributeError, TypeError):
            raise RequestRefusedError(ErrorCode.TOKEN_INVALID, "a claim is missing or malformed") from None

    def _keep(self, key: bytes, claims: Claims) -> None:
        if 2 * len(self._cache) >= self._cache_tokens_max:
            self._cache, self._older = {}, self._cache
        self._cache[key] = claims


def _cache_keys(token: str, device: bytes | None) -> list[bytes]:
    """The keys under which claims may be cached: of the token alone, and of the token with the named device."""
    whole = hashlib.sha256(token.encode("utf-8", "surrogatepass"))
    alone = whole.digest()
    if device is None:
        return [alone]
    whole.update(b"\0" + device)
    return [alone, whole.digest()]
