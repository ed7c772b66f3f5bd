"""`/v1/transfers`, `/v1/quotes`: transfers of services, exchanges."""

from __future__ import annotations

from uuid import UUID

from litestar import post
from litestar.params import FromPath, JSONBody

from server.commerce.chains import ChainReply, NewChain, NewQuote, QuoteReply
from server.commerce.resources.asking import AsKeyed, NoFields
from server.commerce.resources.commerce_parts import InCommerce
from server.http.errors import REFUSALS


@post("/transfers", status_code=201, responses=REFUSALS)
async def post_transfers(data: JSONBody[NewChain], keyed: AsKeyed, parts: InCommerce) -> ChainReply:
    """Transfer all legs or none. A refusal names the first leg that cannot be, from 1."""
    return await parts.chains.post(keyed, data)


@post("/quotes", status_code=201, responses=REFUSALS)
async def make_quote(data: JSONBody[NewQuote], keyed: AsKeyed, parts: InCommerce) -> QuoteReply:
    """Ask what another currency costs; the offer holds for a short time."""
    return await parts.chains.quote(keyed, data)


@post("/quotes/{quote:uuid}/exchange", status_code=200, responses=REFUSALS)
async def use_quote(
    quote: FromPath[UUID], keyed: AsKeyed, parts: InCommerce, data: JSONBody[NoFields | None] = None
) -> QuoteReply:
    """Exchange as quoted, between wallets of the owner of the quote."""
    del data  # it has no fields
    return await parts.chains.exchange(keyed, quote)
