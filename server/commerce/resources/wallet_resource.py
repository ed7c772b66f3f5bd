"""`/v1/wallets`."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import msgspec
from litestar import get, post
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from server.commerce.resources.asking import NUMBER_MAX, AsAsker, AsKeyed, PageLimit, named_or_own
from server.commerce.resources.commerce_parts import InCommerce
from server.commerce.wallet_keeping import NewWallet, StatementLine, WalletReply
from server.http.errors import REFUSALS


class WalletList(msgspec.Struct):
    """The wallets of an owner."""

    wallets: list[WalletReply]


class StatementPage(msgspec.Struct):
    """Transfers, newest first; `before` of the next page is the last number of this one."""

    lines: list[StatementLine]


@post("/wallets", status_code=201, responses=REFUSALS)
async def open_wallet(data: JSONBody[NewWallet], keyed: AsKeyed, parts: InCommerce) -> WalletReply:
    """Open a wallet, or find it open."""
    return await parts.wallets.open(keyed, data)


@get("/wallets", responses=REFUSALS)
async def list_wallets(asker: AsAsker, parts: InCommerce, owner: FromQuery[UUID | None] = None) -> WalletList:
    """Your wallets, or those of a business for which your key acts; for an admin, of anybody."""
    return WalletList(await parts.wallets.list_of(asker, named_or_own(owner, asker)))


@get("/wallets/{wallet:uuid}/statement", responses=REFUSALS)
async def read_statement(
    wallet: FromPath[UUID],
    asker: AsAsker,
    parts: InCommerce,
    before: Annotated[int, QueryParameter(ge=1, le=NUMBER_MAX)] = NUMBER_MAX,
    limit: PageLimit = 50,
) -> StatementPage:
    """What moved in a wallet."""
    return StatementPage(await parts.wallets.read_statement(asker, wallet.bytes, before, limit))
