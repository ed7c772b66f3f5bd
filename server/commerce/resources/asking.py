"""What each handler is given about a request: who asks, and for a POST its idempotency key."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Request
from litestar.di import NamedDependency
from litestar.params import HeaderParameter, QueryParameter, SkipValidation

from protocol.commerce.contract import IDEMPOTENCY_HEADER, KEY_CHARS_MAX, IdempotencyKey
from protocol.errors import ErrorCode
from server.commerce.asker import Asker, KeyedRequest
from server.commerce.request_tokens import AskedRequest
from server.commerce.resources.commerce_parts import InCommerce
from server.refusals import RequestRefusedError

AsAsker = NamedDependency[SkipValidation[Asker]]
"""A handler's parameter: who reads."""
AsKeyed = NamedDependency[SkipValidation[KeyedRequest]]
"""A handler's parameter, named `keyed`: who asks for a step, under which key."""
PageLimit = Annotated[int, QueryParameter(ge=1, le=100)]
FIRST_ID = UUID(int=0)
LAST_ID = UUID(int=2**128 - 1)
NUMBER_MAX = 2**53
"""Where pages begin that name no place: ids and numbers that JSON has exactly."""
_KeyHeader = Annotated[str, HeaderParameter(name=IDEMPOTENCY_HEADER, min_length=1, max_length=KEY_CHARS_MAX)]

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


async def provide_keyed(request: Request[Any, Any, Any], asker: AsAsker, idempotency_key: _KeyHeader) -> KeyedRequest:
    """Who asks for a step, and the key under which its answer is kept; raises RequestRefusedError.

    The framework takes "5" and 5.0 for 5. With money that is an error: the body is checked once more, strictly.
    """
    field = request.route_handler.parsed_data_field
    try:
        msgspec.convert(idempotency_key, IdempotencyKey)
        if field is not None and await request.body():
            msgspec.json.decode(await request.body(), type=field.annotation)
    except msgspec.ValidationError as error:
        raise RequestRefusedError(ErrorCode.INVALID_ARGUMENT, str(error)) from None
    return KeyedRequest(asker, idempotency_key)


def named_or_own(party: UUID | None, asker: Asker) -> bytes:
    """The party that a query names; without one, who asks."""
    return asker.principal if party is None else party.bytes
