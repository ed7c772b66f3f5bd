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

from protocol import ids
from protocol.errors import ErrorCode
from server.api.parts import Parts
from server.identity.accounts import AccountOwner
from server.identity.claims import Claims
from server.identity.vault import is_api_key
from server.refusals import RequestRefusedError
from storage.identity_rows import ServiceKeyRow
from storage.rows import PrincipalType

DEVICE_HEADER = "tchat-device"
_SCHEME = "bearer "


class Caller(msgspec.Struct, frozen=True):
    """A person whose sign-in is live."""

    claims: Claims
    admin: bool


AsCaller = NamedDependency[Caller]
"""A handler's parameter: the signed-in person who asks; when it is named `admin`, they must be an admin."""
AsServiceAccount = NamedDependency[ServiceKeyRow]
"""A handler's parameter: the service, bot or business that asks, by its API key."""
AsOwner = NamedDependency[AccountOwner]
"""A handler's parameter: who manages bots, an admin or a business."""


class Account(msgspec.Struct, frozen=True):
    """A bot or business, and the API key with which it asks."""

    row: ServiceKeyRow
    key: str


AsAccount = NamedDependency[Account]
"""A handler's parameter: the bot or business that asks, by its API key."""


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


async def provide_account(request: Request[Any, Any, Any], service_account: AsServiceAccount) -> Account:
    """The bot or business that asks; raises RequestRefusedError."""
    if service_account.type is PrincipalType.SERVICE:
        raise RequestRefusedError(ErrorCode.NOT_ALLOWED, "this is for bots and businesses; a service has no devices")
    return Account(service_account, _bearer(request))


async def provide_owner(request: Request[Any, Any, Any], parts: Parts) -> AccountOwner:
    """The admin or business that asks; raises RequestRefusedError."""
    if not is_api_key(_bearer(request)):
        admin = await provide_admin(await provide_caller(request, parts))
        return AccountOwner(admin.claims.tenant, admin.claims.principal, ids.NIL)
    business = await provide_service_account(request, parts)
    if business.type is not PrincipalType.BUSINESS:
        raise RequestRefusedError(ErrorCode.NOT_ALLOWED, "bots are made by admins and businesses")
    return AccountOwner(business.tenant, business.service, business.service)


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
