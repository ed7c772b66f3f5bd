"""Who makes a request: a person with an access token, an admin among them, or a service with an API key.

Unlike the gateway, which leaves this to the sync that follows, each request asks the store whether the sign-in goes
on: a valid signature is not enough.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
from litestar import Request
from litestar.di import NamedDependency

from protocol.errors import ErrorCode
from server.api.parts import ApiParts, Parts
from server.identity.refusal import IdentityError
from server.identity.tokens import Claims
from server.identity.vault import is_api_key
from storage.identity import ServiceKeyRow
from storage.rows import PrincipalStatus

DEVICE_HEADER = "tchat-device"
_SCHEME = "bearer "


class Caller(msgspec.Struct, frozen=True):
    """A person whose sign-in is live."""

    tenant: int
    principal: bytes
    device: bytes
    sign_in: bytes
    admin: bool


AsCaller = NamedDependency[Caller]
"""A handler's parameter: whoever asks, who must be signed in (or, named `admin`, be an admin)."""
AsService = NamedDependency[ServiceKeyRow]
"""A handler's parameter: the service that asks."""


def address_of(request: Request[Any, Any, Any]) -> str:
    """Where the client is; the acceptor has resolved proxies."""
    client = request.scope["client"]
    return client[0] if client else ""


async def provide_caller(request: Request[Any, Any, Any], parts: Parts) -> Caller:
    """The person who asks; raises IdentityError or TokenError."""
    token = _bearer(request)
    if is_api_key(token):
        raise IdentityError(ErrorCode.NOT_ALLOWED, "this is for people; an API key appends events")
    claims = await parts.tokens.verify(token, _device(request), address_of(request))
    return await _admitted(parts, claims)


async def provide_admin(caller: AsCaller) -> Caller:
    """The caller, who is an admin; raises IdentityError."""
    if not caller.admin:
        raise IdentityError(ErrorCode.NOT_ALLOWED)
    return caller


async def provide_service(request: Request[Any, Any, Any], parts: Parts) -> ServiceKeyRow:
    """The service that asks; raises IdentityError."""
    token = _bearer(request)
    if not is_api_key(token):
        raise IdentityError(ErrorCode.NOT_ALLOWED, "this is for services; people send through a websocket")
    return await parts.services.of_key(token)


async def _admitted(parts: ApiParts, claims: Claims) -> Caller:
    row = await parts.store.caller(parts.clock.wall_ms(), claims.principal, claims.sign_in)
    if row is not None and row.status is PrincipalStatus.SUSPENDED:
        raise IdentityError(ErrorCode.SUSPENDED)
    if row is None or not row.live or row.status is not PrincipalStatus.ACTIVE:
        raise IdentityError(ErrorCode.SIGNED_OUT)
    return Caller(claims.tenant, claims.principal, claims.device, claims.sign_in, row.admin)


def _bearer(request: Request[Any, Any, Any]) -> str:
    value = request.headers.get("authorization", "")
    if not value.lower().startswith(_SCHEME):
        raise IdentityError(ErrorCode.TOKEN_INVALID, "send `Authorization: Bearer <token>`")
    return value[len(_SCHEME) :].strip()


def _device(request: Request[Any, Any, Any]) -> bytes | None:
    """The device that a client names for a token of another issuer that names none."""
    value = request.headers.get(DEVICE_HEADER)
    if value is None:
        return None
    try:
        return UUID(value).bytes
    except ValueError:
        raise IdentityError(ErrorCode.INVALID_ARGUMENT, f"{DEVICE_HEADER}: a UUID") from None
