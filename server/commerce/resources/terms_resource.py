"""`/v1/fee-rules`, `/v1/rates`, `/v1/limits`: what an admin of the platform sets."""

from __future__ import annotations

from litestar import post
from litestar.params import JSONBody

from server.commerce.platform_terms import ExchangeRate, FeeRule, PersonLimits
from server.commerce.resources.asking import AsKeyed
from server.commerce.resources.commerce_parts import InCommerce
from server.http.errors import REFUSALS


@post("/fee-rules", status_code=204, responses=REFUSALS)
async def set_fee_rule(data: JSONBody[FeeRule], keyed: AsKeyed, parts: InCommerce) -> None:
    """Set the fee of payments that begin from now on."""
    await parts.terms.set_fee_rule(keyed, data)


@post("/rates", status_code=204, responses=REFUSALS)
async def set_rate(data: JSONBody[ExchangeRate], keyed: AsKeyed, parts: InCommerce) -> None:
    """Set a rate of exchange, or the rate in which limits count a currency."""
    await parts.terms.set_rate(keyed, data)


@post("/limits", status_code=204, responses=REFUSALS)
async def set_limits(data: JSONBody[PersonLimits], keyed: AsKeyed, parts: InCommerce) -> None:
    """Set the limits of a person who has a wallet."""
    await parts.terms.set_limits(keyed, data)
