"""`/v1/erasures`."""

from __future__ import annotations

from uuid import UUID

from litestar import get, post
from litestar.params import FromPath, JSONBody

from server.commerce.personal.erasures import ErasureReply, NewErasure
from server.commerce.resources.asking import AsAsker, AsKeyed
from server.commerce.resources.commerce_parts import InCommerce
from server.http.errors import REFUSALS


@post("/erasures", status_code=201, responses=REFUSALS)
async def erase_person(data: JSONBody[NewErasure], keyed: AsKeyed, parts: InCommerce) -> ErasureReply:
    """Erase what is personal of you here, for good. Refused while any of your money is open, and says what."""
    return await parts.personal.erasures.begin(keyed, data)


@get("/erasures/{erasure:uuid}", responses=REFUSALS)
async def read_erasure(erasure: FromPath[UUID], asker: AsAsker, parts: InCommerce) -> ErasureReply:
    """An erasure as it is now."""
    return await parts.personal.erasures.read(asker, erasure.bytes)
