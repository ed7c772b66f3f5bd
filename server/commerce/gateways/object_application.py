"""Applies the objects of a gateway: each effect that the books do not have yet, and before it what it follows from."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from uuid import UUID

from server.clock import Clock
from server.commerce.gateways.effects import Effect, effects_of
from server.commerce.gateways.gateway_contract import Gateway, GatewayUnavailableError
from server.commerce.gateways.gateway_objects import GatewayObject, ObjectKind
from storage.commerce.gateway_intents import GatewayIntents
from storage.commerce.intent_rows import EffectRow
from storage.commerce.money_rows import StepOutcome

_log = logging.getLogger(__name__)


class ObjectApplication:
    """Objects of one gateway, for the books of one tenant."""

    def __init__(self, gateway: Gateway, tenant: int, intents: GatewayIntents, clock: Clock) -> None:
        self._gateway = gateway
        self._tenant = tenant
        self._intents = intents
        self._clock = clock
        self._currencies: set[str] = set()

    async def apply(self, objects: Sequence[GatewayObject]) -> None:
        """Apply what is not applied yet. Raises GatewayUnavailableError, StorageUnavailableError: then repeat it."""
        applied = await self._intents.read_applied(self._gateway.name, [found.id for found in objects])
        for found in objects:
            missing = [each for each in effects_of(self._gateway.name, found) if (found.id, each.kind) not in applied]
            if missing:
                await self._apply(found, missing)

    async def _apply(self, found: GatewayObject, effects: Sequence[Effect]) -> None:
        reference = found.reference
        if found.kind is ObjectKind.PAYMENT and found.parent is not None:
            charge = await self._gateway.fetch(ObjectKind.CHARGE, found.parent)
            self._check_readable(found, charge)
            reference = charge.reference if charge is not None else None
        elif found.kind is ObjectKind.CHARGEBACK and found.parent is not None:
            await self._apply_money_of(found, found.parent)
        for effect in effects:
            await self._open_accounts(effect.currency)
            row = EffectRow(
                object_id=found.id,
                kind=effect.kind,
                change=effect.change_minor,
                currency=effect.currency,
                intent=_intent_of(reference),
                parent=found.parent,
            )
            answer = await self._intents.apply(self._tenant, self._gateway.name, row)
            if answer.outcome is not StepOutcome.DONE:
                _log.error("gateway %s: the amount of %s has changed; ask the gateway", self._gateway.name, found.id)

    async def _apply_money_of(self, found: GatewayObject, parent: str) -> None:
        """What was taken back was paid before: a chargeback may be read first."""
        read = [await self._gateway.fetch(kind, parent) for kind in (ObjectKind.CHARGE, ObjectKind.PAYMENT)]
        paid = [each for each in read if each is not None]
        self._check_readable(found, *paid)
        await self.apply(paid)

    def _check_readable(self, found: GatewayObject, *parents: GatewayObject | None) -> None:
        """What a young object is about may not be readable yet: money that fits nothing is never looked at again."""
        is_young = self._clock.wall_ms() - found.created_at_ms < self._gateway.settle_s * 1000
        if is_young and not any(parents):
            raise GatewayUnavailableError(f"the parent of {found.id} cannot be read yet")

    async def _open_accounts(self, currency: str) -> None:
        if currency not in self._currencies:
            await self._intents.open_accounts(self._tenant, self._gateway.name, currency)
            self._currencies.add(currency)


def _intent_of(reference: str | None) -> bytes | None:
    """The intent that a reference names; None of a reference that is none of ours."""
    try:
        return None if reference is None else UUID(hex=reference).bytes
    except ValueError:
        return None
