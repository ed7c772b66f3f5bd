"""Access tokens: who is speaking, told by a signature, without a look at the database.

Ours are JWTs (RFC 7519) signed with EdDSA (RFC 8037). Invariants: the key decides the algorithm, never the token; a
token's issuer, audience, form and signature are checked before anything in it is believed; claims are cached by the
SHA-256 of the token and never outlive it. A valid signature does not mean that the sign-in goes on: whoever admits
somebody asks the store for that (a sync does so in its own query).
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Protocol

import jwt
import msgspec

from protocol import ids
from protocol.errors import ErrorCode
from protocol.ids import Id
from protocol.limits import TOKEN_CHARS_MAX
from server.clock import Clock
from server.identity.signing_keys import SigningKeys

CACHE_TOKENS_MAX = 100_000
_OWN_ALGORITHMS = ["EdDSA"]
# The time is ours to check: a library would ask a clock that no test owns.
_OPTIONS: jwt.types.Options = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}


class Claims(msgspec.Struct, frozen=True):
    """What a valid token says; ids as bytes, `expires_at_s` in seconds since the epoch."""

    tenant: int
    principal: Id
    device: Id
    sign_in: Id
    expires_at_s: int


class TokenError(Exception):
    """A token that admits nobody, or not now; `code` says why in the catalogue's words."""

    def __init__(self, code: ErrorCode, detail: str, retry_after_s: float | None = None) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.retry_after_s = retry_after_s


class ExternalTokens(Protocol):
    """Tokens of other configured issuers."""

    def knows(self, issuer: str) -> bool:
        """Whether tokens of this issuer are accepted at all."""
        ...

    async def verify(self, token: str, issuer: str, device: bytes | None, address: str) -> Claims:
        """The claims of a token of a known issuer, used by `device` at `address`; raises TokenError."""
        ...


class Tokens:
    """Issues our tokens and verifies everybody's."""

    def __init__(
        self,
        keys: SigningKeys,
        clock: Clock,
        *,
        issuer: str,
        audience: str,
        ttl_s: int,
        foreign: ExternalTokens | None = None,
        cache_tokens_max: int = CACHE_TOKENS_MAX,
    ) -> None:
        self.keys = keys
        self.ttl_s = ttl_s
        self._clock = clock
        self._issuer = issuer
        self._audience = audience
        self._foreign = foreign
        self._cache: OrderedDict[bytes, Claims] = OrderedDict()
        self._cache_tokens_max = cache_tokens_max

    def issue(self, *, tenant: int, principal: bytes, device: bytes, sign_in: bytes) -> str:
        """A token of ours, valid for `ttl_s` from now."""
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
        }
        return jwt.encode(claims, self.keys.signing, algorithm="EdDSA", headers={"kid": self.keys.kid})

    def cached(self, token: str, device: bytes | None = None) -> Claims | None:
        """The claims of a token verified before and still valid. `device` as for `verify`."""
        for key in _cache_keys(token, device):
            if (claims := self._cache.get(key)) is not None:
                if claims.expires_at_s * 1000 > self._clock.wall_ms():
                    self._cache.move_to_end(key)
                    return claims
                del self._cache[key]
        return None

    async def verify(self, token: str, device: bytes | None = None, address: str = "") -> Claims:
        """The claims of a valid token; raises TokenError.

        `device` is the device that the client names, needed with tokens of other issuers that name none. A token
        that names its device is believed over it. `address` is what a person is shown of a sign-in.
        """
        if (claims := self.cached(token, device)) is not None:
            return claims
        issuer = unverified_issuer(token)
        if issuer == self._issuer:
            claims = self._verify_own(token)
            self._keep(_cache_keys(token, None)[0], claims)
        elif self._foreign is not None and self._foreign.knows(issuer):
            claims = await self._foreign.verify(token, issuer, device, address)
            self._keep(_cache_keys(token, device)[-1], claims)
        else:
            raise TokenError(ErrorCode.TOKEN_INVALID, "the issuer is not one of ours")
        return claims

    def _verify_own(self, token: str) -> Claims:
        key = self.keys.accepted(unverified_header(token).get("kid"))
        if key is None:
            raise TokenError(ErrorCode.TOKEN_INVALID, "signed with a key that is not in use")
        claims = verified_claims(token, key, _OWN_ALGORITHMS, issuer=self._issuer, audience=self._audience)
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
            raise TokenError(ErrorCode.TOKEN_INVALID, "a claim is missing or has another form") from None

    def _keep(self, key: bytes, claims: Claims) -> None:
        self._cache[key] = claims
        while len(self._cache) > self._cache_tokens_max:
            self._cache.popitem(last=False)


def _cache_keys(token: str, device: bytes | None) -> list[bytes]:
    """Where claims may be: under the token alone, or under the token and the device that the client names."""
    whole = hashlib.sha256(token.encode("utf-8", "surrogatepass"))
    alone = whole.digest()
    if device is None:
        return [alone]
    whole.update(b"\0" + device)
    return [alone, whole.digest()]


def unverified_header(token: str) -> dict[str, Any]:
    """The header of a token, to choose a key by: nothing in it may be believed. Raises TokenError."""
    if len(token) > TOKEN_CHARS_MAX:
        raise TokenError(ErrorCode.TOKEN_INVALID, "the token is too long")
    try:
        return jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise TokenError(ErrorCode.TOKEN_INVALID, "not a JWT") from None


def unverified_issuer(token: str) -> str:
    """Whose token it claims to be, to choose a verifier by. Raises TokenError."""
    unverified_header(token)
    try:
        issuer = jwt.decode(token, options={"verify_signature": False}).get("iss")
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise TokenError(ErrorCode.TOKEN_INVALID, "not a JWT") from None
    if not isinstance(issuer, str):
        raise TokenError(ErrorCode.TOKEN_INVALID, "the token names no issuer")
    return issuer


def verified_claims(token: str, key: Any, algorithms: list[str], *, issuer: str, audience: str) -> Mapping[str, Any]:
    """The claims under a right signature, from that issuer, for that audience, at any time; or TokenError."""
    required: jwt.types.Options = {**_OPTIONS, "require": ["exp", "sub", "iss", "aud"]}
    try:
        return jwt.decode(token, key, algorithms=algorithms, issuer=issuer, audience=audience, options=required)
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
        raise TokenError(ErrorCode.TOKEN_INVALID, f"refused ({type(error).__name__})") from None


def check_times(claims: Mapping[str, Any], now_s: float, leeway_s: float = 0.0) -> None:
    """Hold `exp` exactly and `nbf` with some leeway against `now_s`; raises TokenError."""
    times = [claims["exp"], claims.get("nbf", 0)]
    if any(isinstance(time, bool) or not isinstance(time, int | float) for time in times):
        raise TokenError(ErrorCode.TOKEN_INVALID, "a time is not a number")
    if not times[0] < 2**53 or times[1] > now_s + leeway_s:  # so that a NaN is refused too
        raise TokenError(ErrorCode.TOKEN_INVALID, "not valid yet, or for ever")
    if times[0] <= now_s:
        raise TokenError(ErrorCode.TOKEN_EXPIRED, "expired")
