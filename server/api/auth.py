"""Authentication of requests: a person or an admin by access token, a service account by API key.

A valid signature is not enough: each request asks the store whether the sign-in is live. (A websocket leaves this to
the sync that follows.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import msgspec
from litestar import Request
from litestar.di import NamedDependency

from protocol.errors import ErrorCode
from server.api.parts import Parts
from server.identity.claims import Claims
from server.identity.vault import is_api_key
from server.refusals import RequestRefusedError
from storage.identity_rows import ServiceKeyRow

DEVICE_HEADER = "tchat-device"
_SCHEME = "bearer "


class Caller(msgspec.Struct, frozen=True):
    """A person whose sign-in is live."""

    claims: Claims
    admin: bool


AsCaller = NamedDependency[Caller]
"""A handler's parameter: the signed-in person who asks; when it is named `admin`, they must be an admin."""
AsServiceAccount = NamedDependency[ServiceKeyRow]
"""A handler's parameter: the service account that asks."""


def address_of(request: Request[Any, Any, Any]) -> str:
    """The address of the client."""
    return address_in(request.scope)


def address_in(scope: Mapping[str, Any]) -> str:
    """The address of the client in an ASGI scope; the acceptor has resolved proxies."""
    client = scope["client"]
    return client[0] if client else ""


async def provide_caller(request: Request[Any, Any, Any], parts: Parts) -> Caller:
    """The person who asks; raises RequestRefusedError."""
    token = _bearer(request)
    if is_api_key(token):
        raise RequestRefusedError(ErrorCode.NOT_ALLOWED, "this is for people; an API key can only append events")
    claims = await parts.tokens.verify(token, _device(request), address_of(request))
    row = await parts.sign_in_flow.check_live(claims)
    return Caller(claims, row.admin)


async def provide_admin(caller: AsCaller) -> Caller:
    """The caller, if they are an admin; raises RequestRefusedError."""
    if not caller.admin:
        raise RequestRefusedError(ErrorCode.NOT_ALLOWED)
    return caller


async def provide_service_account(request: Request[Any, Any, Any], parts: Parts) -> ServiceKeyRow:
    """The service account that asks; raises RequestRefusedError."""
    token = _bearer(request)
    if not is_api_key(token):
        raise RequestRefusedError(
            ErrorCode.NOT_ALLOWED, "this is for service accounts; people send through a websocket"
        )
    return await parts.service_accounts.authenticate(token)


def _bearer(request: Request[Any, Any, Any]) -> str:
    value = request.headers.get("authorization", "")
    if not value.lower().startswith(_SCHEME):
        raise RequestRefusedError(ErrorCode.TOKEN_INVALID, "send `Authorization: Bearer <token>`")
    return value[len(_SCHEME) :].strip()


def _device(request: Request[Any, Any, Any]) -> bytes | None:
    """The device that the client names, for a token of an external issuer that names none."""
    value = request.headers.get(DEVICE_HEADER)
    if value is None:
        return None
    try:
        return UUID(value).bytes
    except ValueError:
        raise RequestRefusedError(ErrorCode.INVALID_ARGUMENT, f"{DEVICE_HEADER}: must be a UUID") from None
