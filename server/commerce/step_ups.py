"""The step-up of a platform: its own proof (a PIN, a face) that a person approves what they see.

A JWT that a key of the platform has signed, as `protocol/commerce/contract.py` says (`Proof`). One request spends it,
and may repeat it.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

import jwt
import msgspec

from protocol.commerce.contract import STEP_UP_AUDIENCE, TOKEN_LIFE_S, step_up_digest
from protocol.errors import ErrorCode
from server.clock import Clock
from server.commerce.asker import Asker
from server.identity.claims import EXTERNAL_LEEWAY_S, check_issued, check_times, unverified_header
from server.identity.jwks import JwksError, KeySet
from server.refusals import RETRY_AFTER_S, RequestRefusedError
from storage.commerce.money_rows import StepKey
from storage.commerce.spent_step_ups import SpentStepUps

_OPTIONS: jwt.types.Options = {
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "require": ["exp", "iat", "sub", "aud", "jti"],
}


class _StepUpClaims(msgspec.Struct):
    sub: UUID
    tenant: int
    digest: str
    jti: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]


class StepUps:
    """Step-ups that `keys` of the platform have signed."""

    def __init__(self, keys: KeySet, spent: SpentStepUps, clock: Clock) -> None:
        self._keys = keys
        self._spent = spent
        self._clock = clock

    async def is_valid(self, asker: Asker, key: StepKey, text: bytes, token: str) -> bool:
        """Whether it proves this text for the asker, and is this request's; raises RequestRefusedError if unknown."""
        try:
            claims = await self._verify(token)
        except RequestRefusedError as refused:
            if refused.code is ErrorCode.UNAVAILABLE:
                raise
            return False
        if (claims.sub.bytes, claims.tenant) != (asker.principal, asker.tenant):
            return False
        if not hmac.compare_digest(claims.digest.encode(), step_up_digest(text).encode()):
            return False
        named = f"{claims.tenant}\n{claims.jti}".encode()
        step_up = hashlib.blake2b(named, digest_size=16, person=b"step up").digest()
        return await self._spent.spend(step_up, key.key_id)

    async def _verify(self, token: str) -> _StepUpClaims:
        try:
            found = await self._keys.find(unverified_header(token).get("kid"))
        except JwksError as error:
            raise RequestRefusedError(
                ErrorCode.UNAVAILABLE, "the keys of step-ups cannot be fetched", retry_after_s=RETRY_AFTER_S
            ) from error
        if found is None:
            raise RequestRefusedError(ErrorCode.TOKEN_INVALID, "signed with an unknown key")
        raw = _read(token, found)
        now_s = self._clock.wall_ms() / 1000
        check_times(raw, now_s, EXTERNAL_LEEWAY_S)
        if raw["exp"] - check_issued(raw, now_s, EXTERNAL_LEEWAY_S) > TOKEN_LIFE_S:
            raise RequestRefusedError(ErrorCode.TOKEN_INVALID, f"it lives longer than {TOKEN_LIFE_S} s")
        try:
            return msgspec.convert(raw, _StepUpClaims)
        except msgspec.ValidationError:
            raise RequestRefusedError(ErrorCode.TOKEN_INVALID, "a claim is missing or malformed") from None


def _read(token: str, key: jwt.PyJWK) -> Mapping[str, Any]:
    try:
        return jwt.decode(token, key.key, algorithms=[key.algorithm_name], audience=STEP_UP_AUDIENCE, options=_OPTIONS)
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
        raise RequestRefusedError(ErrorCode.TOKEN_INVALID, f"refused ({type(error).__name__})") from None
