"""What a JWT claims (RFC 7519), and the checks that a token of any issuer passes."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jwt
import msgspec

from protocol.errors import ErrorCode
from protocol.ids import Id, to_text
from protocol.limits import TOKEN_CHARS_MAX
from server.refusals import RequestRefusedError

# `check_times` checks the times: the library would read a clock that no test controls.
_OPTIONS: jwt.types.Options = {
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "require": ["exp", "sub", "iss", "aud"],
}


class Claims(msgspec.Struct, frozen=True, gc=False):
    """What a valid token says; `expires_at_s` is in seconds since 1970."""

    tenant: int
    principal: Id
    device: Id
    sign_in: Id
    expires_at_s: int


def log_ids(address: str, claims: Claims | None) -> dict[str, str]:
    """The ids of a session, as a log record carries them."""
    if claims is None:
        return {"address": address}
    ids = {"principal": claims.principal, "device": claims.device, "sign_in": claims.sign_in}
    return {"address": address} | {name: to_text(value) for name, value in ids.items()}


def unverified_header(token: str) -> Mapping[str, Any]:
    """The header of a token, to choose a key by; nothing in it is verified. Raises RequestRefusedError."""
    if len(token) > TOKEN_CHARS_MAX:
        raise RequestRefusedError(ErrorCode.TOKEN_INVALID, "the token is too long")
    try:
        return _read_header(token.partition(".")[0])
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise RequestRefusedError(ErrorCode.TOKEN_INVALID, "not a JWT") from None


@functools.lru_cache(maxsize=64)  # the same in all tokens that one key has signed
def _read_header(segment: str) -> Mapping[str, Any]:
    return jwt.get_unverified_header(f"{segment}..")


def unverified_issuer(token: str) -> str:
    """The issuer that a token claims, to choose how to verify it. Raises RequestRefusedError."""
    unverified_header(token)
    try:
        issuer = jwt.decode(token, options={"verify_signature": False}).get("iss")
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise RequestRefusedError(ErrorCode.TOKEN_INVALID, "not a JWT") from None
    if not isinstance(issuer, str):
        raise RequestRefusedError(ErrorCode.TOKEN_INVALID, "the token names no issuer")
    return issuer


def verify_signature(token: str, key: Any, algorithms: list[str], *, issuer: str, audience: str) -> Mapping[str, Any]:
    """The claims of a token with a valid signature, issuer and audience; times are not checked.

    Raises RequestRefusedError.
    """
    try:
        return jwt.decode(token, key, algorithms=algorithms, issuer=issuer, audience=audience, options=_OPTIONS)
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
        raise RequestRefusedError(ErrorCode.TOKEN_INVALID, f"refused ({type(error).__name__})") from None


EXTERNAL_LEEWAY_S = 60.0
"""How far another platform's clock may be ahead of ours."""


def check_times(claims: Mapping[str, Any], now_s: float, leeway_s: float = 0.0) -> None:
    """Check `exp` exactly, and `nbf` with the leeway; raises RequestRefusedError."""
    times = [claims["exp"], claims.get("nbf", 0)]
    if any(isinstance(time, bool) or not isinstance(time, int | float) for time in times):
        raise RequestRefusedError(ErrorCode.TOKEN_INVALID, "a time is not a number")
    if not times[0] < 2**53 or times[1] > now_s + leeway_s:  # written so that NaN is refused too
        raise RequestRefusedError(ErrorCode.TOKEN_INVALID, "not valid yet, or without a usable end")
    if times[0] <= now_s:
        raise RequestRefusedError(ErrorCode.TOKEN_EXPIRED, "expired")


def check_issued(claims: Mapping[str, Any], now_s: float, leeway_s: float) -> float:
    """When the token was issued (`iat`), in seconds; raises RequestRefusedError if it is missing or in the future."""
    issued_at_s = claims.get("iat")
    if isinstance(issued_at_s, bool) or not isinstance(issued_at_s, int | float):
        raise RequestRefusedError(ErrorCode.TOKEN_INVALID, "the token does not say when it was issued (`iat`)")
    if not issued_at_s <= now_s + leeway_s:  # written so that NaN is refused too
        raise RequestRefusedError(ErrorCode.TOKEN_INVALID, "issued in the future")
    return issued_at_s
