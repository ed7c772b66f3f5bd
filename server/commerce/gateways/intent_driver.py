"""Carries out what gateways are asked for, in the background: each intent is called until its fate is known.

Several processes may run: an intent is one driver's while its lease lasts, which is longer than a call. Past the key
window nothing is called again, and the gateway is asked what it has.
"""

from __future__ import annotations

import asyncio
import logging

from protocol.commerce.intent_states import IntentKind, IntentState, IntentStep
from server.clock import Clock, Sleep
from server.commerce.gateways.gateway_contract import (
    Answer,
    ChargeCall,
    Gateway,
    GatewayRefusal,
    GatewayUnavailableError,
    PayoutCall,
    RefundCall,
)
from server.commerce.gateways.gateway_objects import GatewayObject, ObjectKind
from server.commerce.gateways.object_application import ObjectApplication
from server.steps import step_by_step
from storage.commerce.gateway_intents import GatewayIntents
from storage.commerce.intent_rows import IntentRow

_log = logging.getLogger(__name__)

LEASE_US = 20_000_000
"""Longer than a call and what follows it."""
LANES = 4
INTENTS_PER_STEP = 4
INTERVAL_S = 0.5
_REST_S = 0.0
_S_US = 1_000_000
_PAUSE_US = 500_000
_PAUSE_US_MAX = 15 * _S_US
_OBJECTS = {
    IntentKind.TOP_UP: ObjectKind.CHARGE,
    IntentKind.WITHDRAWAL: ObjectKind.PAYOUT,
    IntentKind.REFUND: ObjectKind.REFUND,
}


class IntentDriver:
    """Runs for one gateway until it is cancelled."""

    def __init__(
        self,
        gateway: Gateway,
        intents: GatewayIntents,
        application: ObjectApplication,
        clock: Clock,
        *,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._gateway = gateway
        self._intents = intents
        self._application = application
        self._clock = clock
        self._sleep = sleep

    async def run(self) -> None:
        """Carry out what is due, then pause, until cancelled."""
        could_not = f"could not ask the gateway {self._gateway.name}"
        async with asyncio.TaskGroup() as group:
            for _ in range(LANES):
                group.create_task(
                    step_by_step(self.step, _log, could_not, interval_s=INTERVAL_S, sleep=self._sleep, rest_s=_REST_S)
                )

    async def step(self) -> bool:
        """Carry out some that are due; whether there may be more."""
        rows = await self._intents.claim(self._gateway.name, INTENTS_PER_STEP, lease_us=LEASE_US)
        ends = await asyncio.gather(*map(self._drive, rows), return_exceptions=True)
        for end in ends:
            if isinstance(end, BaseException):
                raise end
        return len(rows) == INTENTS_PER_STEP

    async def _drive(self, row: IntentRow) -> None:
        try:
            if row.state is IntentState.UNKNOWN:
                await self._resolve(row)
            elif row.state is IntentState.PENDING:
                await self._look_at(row)
            elif row.state is IntentState.WRITTEN:
                await self._settle(row, await self._call(row))
        except GatewayUnavailableError as error:
            pause_us = max(_backoff_us(row), error.retry_after_s * _S_US)
            await self._intents.settle(row, None, reason=str(error), pause_us=pause_us)

    async def _settle(self, row: IntentRow, answer: Answer) -> None:
        if isinstance(answer, GatewayObject):
            await self._accept(row, [answer])
        elif isinstance(answer, GatewayRefusal):
            await self._intents.settle(row, IntentStep.FAIL, reason=answer.reason)
        elif self._clock.wall_ms() - row.written_us // 1000 >= self._gateway.key_window_s * 1000:
            await self._intents.settle(row, IntentStep.LOSE, reason=answer.detail, pause_us=_backoff_us(row))
        else:
            await self._intents.settle(row, None, reason=answer.detail, pause_us=_backoff_us(row))

    async def _accept(self, row: IntentRow, found: list[GatewayObject]) -> None:
        first = found[0]
        expires_us = None if first.expires_at_ms is None else first.expires_at_ms * 1000
        await self._intents.settle(row, IntentStep.ACCEPT, object_id=first.id, qr=first.qr, expires_us=expires_us)
        await self._application.apply(found)

    async def _look_at(self, row: IntentRow) -> None:
        """No change of it was read for long: what says that it has ended may be lost."""
        found = await self._gateway.find(_OBJECTS[row.kind], row.intent.hex())
        await self._intents.settle(row, None)
        await self._application.apply(found)

    async def _resolve(self, row: IntentRow) -> None:
        """It is too old to be sent again: what the gateway has decides."""
        found = await self._gateway.find(_OBJECTS[row.kind], row.intent.hex())
        assert row.due_us is not None, "it is claimed"
        left_us = row.settled_us + self._gateway.settle_s * _S_US - (row.due_us - LEASE_US)
        if found:
            await self._accept(row, found)
        elif left_us > 0:
            await self._intents.settle(row, None, pause_us=left_us)
        else:
            await self._intents.settle(row, IntentStep.FAIL, reason="the gateway never had it")

    async def _call(self, row: IntentRow) -> Answer:
        given = {
            "reference": row.intent.hex(),
            "written_at_ms": row.written_us // 1000,
            "amount_minor": row.amount,
            "currency": row.currency,
        }
        if row.kind is IntentKind.TOP_UP:
            call = {**given, "method": row.method, "source": row.token, "expires_in_s": row.life_s}
            return await self._gateway.charge(ChargeCall(**call))  # type: ignore[arg-type]  # as it was written
        token = row.token or ""
        if row.kind is IntentKind.REFUND:
            return await self._gateway.refund(RefundCall(**given, parent=token))  # type: ignore[arg-type]
        return await self._gateway.payout(PayoutCall(**given, destination=token))  # type: ignore[arg-type]


def _backoff_us(row: IntentRow) -> int:
    return int(min(_PAUSE_US_MAX, _PAUSE_US << min(row.failures, 10)))
