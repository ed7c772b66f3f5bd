"""What an admin sees of gateways: what they owe by our books, what is open, what fits nothing; and gives that away."""

from __future__ import annotations

from uuid import UUID

import msgspec

from server.commerce.asker import Asker, KeyedRequest
from server.commerce.gateways.configured_gateways import ConfiguredGateways
from server.commerce.outcomes import check_done
from server.commerce.step_keys import StepKeys
from storage.commerce.api_key_store import Right
from storage.commerce.gateway_intents import GatewayIntents
from storage.commerce.intent_rows import SuspenseRow


class GatewayTotal(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway in a currency. `owed_minor`: what it owes us by our books, of which `suspense_minor` fits nothing."""

    gateway: str
    currency: str
    owed_minor: int
    suspense_minor: int


class GatewayProgress(msgspec.Struct, frozen=True, kw_only=True):
    """Up to where a gateway's changes are applied, and what is open there; counts stop at 10,000.

    `unknown_intents` are too old to be sent again, and the gateway has not said yet what became of them.
    """

    gateway: str
    read_until_ms: int | None
    open_intents: int
    unknown_intents: int
    oldest_open_at_ms: int | None
    webhooks_waiting: int


class Reconciliation(msgspec.Struct, frozen=True, kw_only=True):
    """All gateways. `oldest_suspense_at_ms`: since when the oldest item of suspense waits for a person."""

    totals: list[GatewayTotal]
    gateways: list[GatewayProgress]
    oldest_suspense_at_ms: int | None


class SuspenseItem(msgspec.Struct, frozen=True, kw_only=True):
    """Money of one object that fits nothing. Below zero the gateway took it, and nobody was charged with it."""

    item: int
    gateway: str
    object_id: str
    effect: str
    amount_minor: int
    currency: str
    at_ms: int
    intent: UUID | None


class SuspenseRelease(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The wallet that gets it; or, of an item below zero, that gives it."""

    wallet: UUID


class Reconciling:
    """For API keys with the right admin."""

    def __init__(self, intents: GatewayIntents, keys: StepKeys, gateways: ConfiguredGateways) -> None:
        self._intents = intents
        self._keys = keys
        self._gateways = gateways

    async def read(self, asker: Asker) -> Reconciliation:
        """Where all gateways stand; raises RequestRefusedError."""
        asker.check_right(Right.ADMIN)
        mine = [each for each in self._gateways.all if each.tenant == asker.tenant]
        totals, progress = [], []
        for each in mine:
            for currency in each.currencies:
                found = await self._intents.read_totals(asker.tenant, each.engine.name, currency)
                totals.append(
                    GatewayTotal(
                        gateway=found.gateway,
                        currency=currency,
                        owed_minor=found.owed,
                        suspense_minor=found.suspense,
                    )
                )
            backlog = await self._intents.read_backlog(each.engine.name)
            oldest_us = backlog.oldest_open_us
            progress.append(
                GatewayProgress(
                    gateway=backlog.gateway,
                    read_until_ms=backlog.read_ms,
                    open_intents=backlog.open_intents,
                    unknown_intents=backlog.unknown_intents,
                    oldest_open_at_ms=None if oldest_us is None else oldest_us // 1000,
                    webhooks_waiting=backlog.hints,
                )
            )
        oldest = await self._intents.read_suspense(asker.tenant, 0, 1)
        return Reconciliation(
            totals=totals,
            gateways=progress,
            oldest_suspense_at_ms=oldest[0].at_us // 1000 if oldest else None,
        )

    async def read_suspense(self, asker: Asker, after: int, limit: int) -> list[SuspenseItem]:
        """What is in suspense, oldest first; raises RequestRefusedError."""
        asker.check_right(Right.ADMIN)
        return [_render(row) for row in await self._intents.read_suspense(asker.tenant, after, limit)]

    async def release(self, request: KeyedRequest, item: int, release: SuspenseRelease) -> None:
        """Give an item to a wallet, once; raises RequestRefusedError."""
        asker = request.asker
        asker.check_right(Right.ADMIN)
        key = self._keys.make(request, f"release suspense {item}", release)
        check_done(await self._intents.release(key, asker.principal, asker.tenant, item, release.wallet.bytes))


def _render(row: SuspenseRow) -> SuspenseItem:
    return SuspenseItem(
        item=row.item,
        gateway=row.gateway,
        object_id=row.object_id,
        effect=row.effect.name.lower(),
        amount_minor=row.amount,
        currency=row.currency,
        at_ms=row.at_us // 1000,
        intent=None if row.intent is None else UUID(bytes=row.intent),
    )
