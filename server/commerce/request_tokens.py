"""Verifies the tokens of the chat (`protocol/commerce/contract.py`): one for each request, and access tokens for reads.

Invariants: only Ed25519 keys of the configured document; a token of a request lives TOKEN_LIFE_S at most and is for the
method, path, key and body that it names; an access token never moves money. Replay is harmless: the idempotency key is
part of what the token is for.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from jwt.algorithms import OKPAlgorithm
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from protocol.commerce.contract import AUDIENCE, PERSON_AUDIENCE, TOKEN_LIFE_S, request_digest
from protocol.errors import ErrorCode
from server.clock import Clock
from server.commerce.asker import Asker
from server.identity.claims import check_issued, check_times, unverified_header
from server.identity.jwks import JwksError, KeySet
from server.refusals import RETRY_AFTER_S, RequestRefusedError

CLOCK_LEEWAY_S = 5.0
"""How far the clock of the chat may be ahead of ours."""
_ALGORITHMS = ["EdDSA"]
_AUDIENCES = (AUDIENCE, PERSON_AUDIENCE)


class _BySodium(OKPAlgorithm):
    """By libsodium, in half the time of OpenSSL: a tenth of what a payment costs here."""

    def verify(self, msg: str | bytes, key: Any, sig: str | bytes) -> bool:
        """Whether the signature is right; the library passes bytes."""
        assert isinstance(msg, bytes)
        assert isinstance(sig, bytes)
        try:
            VerifyKey(key.public_bytes_raw()).verify(msg, sig)
        except (BadSignatureError, ValueError):
            return False
        return True


_JWS = jwt.PyJWS()
_JWS.unregister_algorithm("EdDSA")
_JWS.register_algorithm("EdDSA", _BySodium())


class AskedRequest(msgspec.Struct, frozen=True):
    """A request as it came; `path` with its query."""

    method: str
    path: str
    key: str
    body: bytes


class _ChatClaims(msgspec.Struct):
    """`digest` is in a token of a request. `device_key`: the public key (Ed25519, base64) of the device, if any."""

    sub: UUID
    tenant: int
    device: UUID
    exp: float
    digest: str | None = None
    device_key: str | None = None


class RequestTokens:
    """Tokens that the keys of the chat have signed."""

    def __init__(self, keys: KeySet, clock: Clock, *, issuer: str, audience: str) -> None:
        """`issuer` and `audience` are those of access tokens."""
        self._keys = keys
        self._clock = clock
        self._issuer = issuer
        self._audience = audience

    async def verify(self, token: str, request: AskedRequest) -> Asker:
        """Who asks; raises RequestRefusedError."""
        key = await self._find_key(token)
        now_s = self._clock.wall_ms() / 1000
        raw = self._read(token, key, request.method)
        claims = _convert(raw)
        check_times(raw, now_s, CLOCK_LEEWAY_S)
        issued_at_s = check_issued(raw, now_s, CLOCK_LEEWAY_S)
        if claims.digest is not None:
            if claims.exp - issued_at_s > TOKEN_LIFE_S:
                raise RequestRefusedError(ErrorCode.TOKEN_INVALID, f"it lives longer than {TOKEN_LIFE_S} s")
            digest = request_digest(request.method, request.path, request.key, request.body)
            if not hmac.compare_digest(digest.encode(), claims.digest.encode()):
                raise RequestRefusedError(ErrorCode.TOKEN_INVALID, "it is for another request")
        return Asker(
            tenant=claims.tenant,
            principal=claims.sub.bytes,
            device=claims.device.bytes,
            device_key=_device_key(claims.device_key),
            direct=raw["aud"] != AUDIENCE,
        )

    async def _find_key(self, token: str) -> Ed25519PublicKey:
        try:
            found = await self._keys.find(unverified_header(token).get("kid"))
        except JwksError as error:
            raise RequestRefusedError(
                ErrorCode.UNAVAILABLE, "the keys of the chat cannot be fetched", retry_after_s=RETRY_AFTER_S
            ) from error
        if found is None or not isinstance(found.key, Ed25519PublicKey):
            raise RequestRefusedError(ErrorCode.TOKEN_INVALID, "signed with an unknown key")
        return found.key

    def _read(self, token: str, key: Ed25519PublicKey, method: str) -> Mapping[str, Any]:
        """The claims of a token of a request; or, for a GET, of an access token."""
        try:
            claims = msgspec.json.decode(_JWS.decode(token, key, _ALGORITHMS), type=dict[str, Any])
        except (jwt.PyJWTError, msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
            raise RequestRefusedError(ErrorCode.TOKEN_INVALID, f"refused ({type(error).__name__})") from None
        if claims.get("aud") in _AUDIENCES:
            if not isinstance(claims.get("digest"), str):
                raise RequestRefusedError(ErrorCode.TOKEN_INVALID, "it names no request (`digest`)")
        elif method != "GET" or (claims.get("iss"), claims.get("aud")) != (self._issuer, self._audience):
            raise RequestRefusedError(ErrorCode.TOKEN_INVALID, "it is for another service, or issued by another")
        return claims


def _convert(raw: Mapping[str, Any]) -> _ChatClaims:
    try:
        return msgspec.convert(raw, _ChatClaims)
    except msgspec.ValidationError:
        raise RequestRefusedError(ErrorCode.TOKEN_INVALID, "a claim is missing or malformed") from None


def _device_key(text: str | None) -> bytes | None:
    try:
        return None if text is None else base64.b64decode(text, validate=True)
    except ValueError:
        raise RequestRefusedError(ErrorCode.TOKEN_INVALID, "`device_key` is not base64") from None
