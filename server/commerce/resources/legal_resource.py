"""`/v1/identity`, `/v1/legal-copies`: what the law wants kept."""

from __future__ import annotations

from uuid import UUID

from litestar import get, post
from litestar.params import FromPath, FromQuery, JSONBody

from server.commerce.personal.legal_records import IdentityReply, LegalCopyReply, NewIdentity, NewLegalCopy
from server.commerce.resources.asking import AsAsker, AsKeyed
from server.commerce.resources.commerce_parts import InCommerce
from server.http.errors import REFUSALS


@post("/identity", status_code=200, responses=REFUSALS)
async def set_identity(data: JSONBody[NewIdentity], keyed: AsKeyed, parts: InCommerce) -> IdentityReply:
    """Store who you are before the law, and your tax data."""
    return await parts.personal.legal.set_identity(keyed, data)


@get("/identity", responses=REFUSALS)
async def read_identity(asker: AsAsker, parts: InCommerce, person: FromQuery[UUID | None] = None) -> IdentityReply:
    """Who you are; for an API key with the right personal, anybody, until the law wants it kept no longer."""
    return await parts.personal.legal.read_identity(asker, person)


@post("/legal-copies", status_code=201, responses=REFUSALS)
async def keep_legal_copy(data: JSONBody[NewLegalCopy], keyed: AsKeyed, parts: InCommerce) -> LegalCopyReply:
    """Keep your address and identity as they are now for an order; the first copy stays."""
    return await parts.personal.legal.keep_copy(keyed, data)


@get("/legal-copies/{order:uuid}", responses=REFUSALS)
async def read_legal_copy(
    order: FromPath[UUID], asker: AsAsker, parts: InCommerce, person: FromQuery[UUID | None] = None
) -> LegalCopyReply:
    """The copy for an order of yours; for an API key with the right personal, of anybody."""
    return await parts.personal.legal.read_copy(asker, order, person)
