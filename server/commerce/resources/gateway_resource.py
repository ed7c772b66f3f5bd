"""`/v1/topups`, `/v1/withdrawals`, `/v1/gateways`, `/v1/suspense`, `/v1/reconciliation`."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Request, get, post
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from protocol.commerce.intent_states import IntentKind
from protocol.errors import ErrorCode
from server.commerce.charging import IntentReply, NewTopUp, NewWithdrawal
from server.commerce.reconciling import Reconciliation, SuspenseItem, SuspenseRelease
from server.commerce.resources.asking import LAST_ID, NUMBER_MAX, AsAsker, AsKeyed, PageLimit, named_or_own
from server.commerce.resources.commerce_parts import InCommerce
from server.http.errors import REFUSALS
from server.refusals import RequestRefusedError


class IntentPage(msgspec.Struct):
    """Newest first; `before` of the next page is the last id of this one."""

    intents: list[IntentReply]


class SuspensePage(msgspec.Struct):
    """Oldest first; `after` of the next page is the last number of this one."""

    items: list[SuspenseItem]


@post("/topups", status_code=201, responses=REFUSALS)
async def create_top_up(data: JSONBody[NewTopUp], keyed: AsKeyed, parts: InCommerce) -> IntentReply:
    """Ask to be charged, by card or QR code. Read it again until it is `paid` or `failed`."""
    return await parts.charging.top_up(keyed, data)


@get("/topups/{intent:uuid}", responses=REFUSALS)
async def read_top_up(intent: FromPath[UUID], asker: AsAsker, parts: InCommerce) -> IntentReply:
    """A top-up as it is now."""
    return await parts.charging.read(asker, IntentKind.TOP_UP, intent)


@get("/topups", responses=REFUSALS)
async def list_top_ups(
    asker: AsAsker, parts: InCommerce, before: FromQuery[UUID] = LAST_ID, limit: PageLimit = 50
) -> IntentPage:
    """Your top-ups."""
    found = await parts.charging.read_page(asker, IntentKind.TOP_UP, asker.principal, before.bytes, limit)
    return IntentPage(found)


@post("/withdrawals", status_code=201, responses=REFUSALS)
async def create_withdrawal(data: JSONBody[NewWithdrawal], keyed: AsKeyed, parts: InCommerce) -> IntentReply:
    """Ask to be paid out to a bank account. The money leaves the wallet at once, and returns if it fails."""
    return await parts.charging.withdraw(keyed, data)


@get("/withdrawals/{intent:uuid}", responses=REFUSALS)
async def read_withdrawal(intent: FromPath[UUID], asker: AsAsker, parts: InCommerce) -> IntentReply:
    """A withdrawal as it is now."""
    return await parts.charging.read(asker, IntentKind.WITHDRAWAL, intent)


@get("/withdrawals", responses=REFUSALS)
async def list_withdrawals(
    asker: AsAsker,
    parts: InCommerce,
    owner: FromQuery[UUID | None] = None,
    before: FromQuery[UUID] = LAST_ID,
    limit: PageLimit = 50,
) -> IntentPage:
    """Your withdrawals, or those of a business for which your key acts."""
    named = named_or_own(owner, asker)
    return IntentPage(await parts.charging.read_page(asker, IntentKind.WITHDRAWAL, named, before.bytes, limit))


@post("/gateways/{gateway:str}/events", status_code=204, responses=REFUSALS)
async def take_webhook(gateway: FromPath[str], request: Request[Any, Any, Any], parts: InCommerce) -> None:
    """A webhook of a gateway: signed by it, and a hint only. It has no token and no idempotency key."""
    headers = {name.lower(): value for name, value in request.headers.items()}
    await parts.webhooks.take(gateway, headers, await request.body())


@get("/reconciliation", responses=REFUSALS)
async def read_reconciliation(asker: AsAsker, parts: InCommerce) -> Reconciliation:
    """What gateways owe by our books, what is open there, and since when."""
    return await parts.reconciling.read(asker)


@get("/suspense", responses=REFUSALS)
async def list_suspense(
    asker: AsAsker,
    parts: InCommerce,
    after: Annotated[int, QueryParameter(ge=0, le=NUMBER_MAX)] = 0,
    limit: PageLimit = 50,
) -> SuspensePage:
    """Money that fits nothing."""
    return SuspensePage(await parts.reconciling.read_suspense(asker, after, limit))


@post("/suspense/{item:int}/release", status_code=204, responses=REFUSALS)
async def release_suspense(
    item: FromPath[int], data: JSONBody[SuspenseRelease], keyed: AsKeyed, parts: InCommerce
) -> None:
    """Give an item to a wallet, with a line in the audit."""
    if item > NUMBER_MAX:
        raise RequestRefusedError(ErrorCode.INTENT_NOT_FOUND)
    await parts.reconciling.release(keyed, item, data)
