"""Tokens with which people ask commerce themselves: orders, top-ups, withdrawals, addresses, exports."""

from __future__ import annotations

from typing import Annotated

import msgspec
from litestar import post
from litestar.params import JSONBody
from msgspec import Meta

from protocol.commerce.contract import TOKEN_LIFE_S
from server.api import fields as f
from server.api.auth import AsCaller
from server.api.parts import Parts
from server.http.errors import REFUSALS

Digest = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9_-]{43}\Z",
        description=(
            "base64url, without padding, of the SHA-256 of method, path with query, `Idempotency-Key` and body of the "
            "request, each followed by a newline but the last"
        ),
    ),
]


class CommerceTokenRequest(f.Request):
    """The digest of the request that you will send."""

    digest: Digest


class CommerceTokenReply(msgspec.Struct):
    """Send the request with `Authorization: Bearer TOKEN` before it expires; a repeat may have a token of its own."""

    token: str
    expires_in_s: int = TOKEN_LIFE_S


@post("/commerce-tokens", responses=REFUSALS)
async def make_token(data: JSONBody[CommerceTokenRequest], caller: AsCaller, parts: Parts) -> CommerceTokenReply:
    """A token for one request to commerce. Payments are requested and sent with the command `pay`, not with it."""
    return CommerceTokenReply(await parts.person_tokens.sign(caller.claims, data.digest))
