"""What exports are made of: all that a person can read here, page by page, as the resources answer it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from protocol.commerce.intent_states import IntentKind
from protocol.ids import NIL
from server.commerce.asker import Asker
from server.commerce.charging import Charging
from server.commerce.payment_steps import PaymentSteps
from server.commerce.personal.addresses import Addresses
from server.commerce.personal.exports import SOURCES, ExportCursor, ExportPart
from server.commerce.personal.legal_records import LegalRecords
from server.commerce.resources.asking import LAST_ID
from server.commerce.shops.business_keeping import BusinessKeeping
from server.commerce.shops.order_steps import OrderSteps
from server.commerce.wallet_keeping import WalletKeeping

PART_ROWS = 100
PART_SHOPPING = 10
"""Orders or carts of a part: they have many lines."""
_Page = tuple[Sequence[Any], bytes | None]
"""Rows, and behind what the next page of the source begins; None after the last."""


class ExportSources:
    """What a person can read: each call is a page of one source, and where the next begins."""

    def __init__(
        self,
        wallets: WalletKeeping,
        payments: PaymentSteps,
        charging: Charging,
        personal: tuple[Addresses, LegalRecords],
        shops: tuple[OrderSteps, BusinessKeeping],
    ) -> None:
        self._wallets = wallets
        self._payments = payments
        self._charging = charging
        self._addresses, self._legal = personal
        self._orders, self._businesses = shops
        self._pages: dict[str, Callable[[Asker, bytes | None], Awaitable[_Page]]] = {
            "wallets": self._read_wallets,
            "payments": self._read_payments,
            "top_ups": self._read_top_ups,
            "withdrawals": self._read_withdrawals,
            "orders": self._read_orders,
            "carts": self._read_carts,
            "roles": self._read_roles,
            "addresses": self._read_addresses,
            "identity": self._read_identity,
            "legal_copies": self._read_legal_copies,
        }

    async def read(self, asker: Asker, at: ExportCursor) -> tuple[ExportPart, ExportCursor | None]:
        """The page at a cursor; the cursor after it is None at the end."""
        if at.source == "statements":
            return await self._read_statement(asker, at)
        rows, row = await self._pages[at.source](asker, at.row)
        after = _next_source(at) if row is None else ExportCursor(source=at.source, row=row)
        return _part(at, rows), after

    async def _read_statement(self, asker: Asker, at: ExportCursor) -> tuple[ExportPart, ExportCursor | None]:
        wallets = await self._wallets.list_of(asker, asker.principal)
        if at.wallet >= len(wallets):
            return _part(at, []), _next_source(at)
        wallet = wallets[at.wallet].id
        lines = await self._wallets.read_statement(asker, wallet.bytes, at.number, PART_ROWS)
        after = ExportCursor(source="statements", wallet=at.wallet + 1)
        if len(lines) == PART_ROWS:
            after = ExportCursor(source="statements", wallet=at.wallet, number=lines[-1].number)
        return msgspec.structs.replace(_part(at, lines), wallet=wallet), after

    async def _read_wallets(self, asker: Asker, _row: bytes | None) -> _Page:
        return await self._wallets.list_of(asker, asker.principal), None

    async def _read_payments(self, asker: Asker, row: bytes | None) -> _Page:
        page = await self._payments.read_page(asker, asker.principal, row or LAST_ID.bytes, PART_ROWS)
        return page, _last([each.id.bytes for each in page], PART_ROWS)

    async def _read_top_ups(self, asker: Asker, row: bytes | None) -> _Page:
        return await self._read_intents(asker, IntentKind.TOP_UP, row)

    async def _read_withdrawals(self, asker: Asker, row: bytes | None) -> _Page:
        return await self._read_intents(asker, IntentKind.WITHDRAWAL, row)

    async def _read_intents(self, asker: Asker, kind: IntentKind, row: bytes | None) -> _Page:
        page = await self._charging.read_page(asker, kind, asker.principal, row or LAST_ID.bytes, PART_ROWS)
        return page, _last([each.id.bytes for each in page], PART_ROWS)

    async def _read_orders(self, asker: Asker, row: bytes | None) -> _Page:
        page = await self._orders.list_own(asker, row or LAST_ID.bytes, PART_SHOPPING)
        whole = [await self._orders.read(asker, each.id) for each in page]
        return whole, _last([each.id.bytes for each in page], PART_SHOPPING)

    async def _read_carts(self, asker: Asker, row: bytes | None) -> _Page:
        found = (await self._orders.list_carts(asker, row or NIL, PART_SHOPPING)).businesses
        carts = [await self._orders.read_cart(asker, each, None) for each in found]
        return carts, _last([each.bytes for each in found], PART_SHOPPING)

    async def _read_roles(self, asker: Asker, _row: bytes | None) -> _Page:
        return await self._businesses.list_roles(asker), None

    async def _read_addresses(self, asker: Asker, _row: bytes | None) -> _Page:
        return await self._addresses.list_of(asker), None

    async def _read_identity(self, asker: Asker, _row: bytes | None) -> _Page:
        known = await self._legal.find_identity(asker.tenant, asker.principal)
        return [known] if known else [], None

    async def _read_legal_copies(self, asker: Asker, row: bytes | None) -> _Page:
        copies = await self._legal.read_copies(asker, row or NIL, PART_ROWS)
        return [copy for _, copy in copies], _last([item for item, _ in copies], PART_ROWS)


def _next_source(at: ExportCursor) -> ExportCursor | None:
    place = SOURCES.index(at.source) + 1
    return ExportCursor(source=SOURCES[place]) if place < len(SOURCES) else None


def _last(ids: Sequence[bytes], limit: int) -> bytes | None:
    """Behind what the next page begins; None if the page was not full."""
    return ids[-1] if len(ids) == limit else None


def _part(at: ExportCursor, rows: Any) -> ExportPart:
    return ExportPart(source=at.source, rows=msgspec.to_builtins(rows))
