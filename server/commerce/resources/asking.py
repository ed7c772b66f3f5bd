"""What each handler is given about a request: who asks, and for a POST its idempotency key."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Request
from litestar.di import NamedDependency
from msgspec import Meta

from protocol.commerce.contract import IDEMPOTENCY_HEADER, IdempotencyKey
from protocol.errors import ErrorCode
from server.commerce.asker import Asker, KeyedRequest
from server.commerce.request_tokens import AskedRequest
from server.commerce.resources.commerce_parts import InCommerce
from server.refusals import RequestRefusedError

AsAsker = NamedDependency[Asker]
"""A handler's parameter: who reads."""
AsKeyed = NamedDependency[KeyedRequest]
"""A handler's parameter, named `keyed`: who asks for a step, under which key."""
PageLimit = Annotated[int, Meta(ge=1, le=100)]

_SCHEME = "bearer "


class NoFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a request that says all in its path: none, or an empty object."""


async def provide_asker(request: Request[Any, Any, Any], parts: InCommerce) -> Asker:
    """Who asks; raises RequestRefusedError."""
    value = request.headers.get("authorization", "")
    if not value.lower().startswith(_SCHEME):
        raise RequestRefusedError(ErrorCode.TOKEN_INVALID, "send `Authorization: Bearer <token>`")
    path, query = request.scope["raw_path"].decode("latin-1"), request.scope["query_string"].decode("latin-1")
    asked = AskedRequest(
        request.method,
        f"{path}?{query}" if query else path,
        request.headers.get(IDEMPOTENCY_HEADER, ""),
        await request.body(),
    )
    return await parts.authentication.identify(value[len(_SCHEME) :].strip(), asked)


async def provide_keyed(request: Request[Any, Any, Any], asker: AsAsker) -> KeyedRequest:
    """Who asks for a step, and the key under which its answer is kept; raises RequestRefusedError."""
    try:
        key = msgspec.convert(request.headers.get(IDEMPOTENCY_HEADER), IdempotencyKey)
    except msgspec.ValidationError:
        raise RequestRefusedError(
            ErrorCode.INVALID_ARGUMENT, f"{IDEMPOTENCY_HEADER}: a header of 1 to 255 printable characters"
        ) from None
    return KeyedRequest(asker, key)


def named_or_own(party: UUID | None, asker: Asker) -> bytes:
    """The party that a query names; without one, who asks."""
    return asker.principal if party is None else party.bytes
