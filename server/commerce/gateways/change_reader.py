"""Reads what has changed at a gateway, window by window: what no webhook said and no answer told is found here.

A window ends `settle_s` ago at least, by our clock and by the gateway's: ours may be ahead, and what is paid after it
is back would be passed over. The cursor moves when all of its effects are applied. One process at a time has the turn;
if it is slow another repeats the window, which changes nothing.
"""

from __future__ import annotations

import asyncio
import logging

from server.clock import Clock, Sleep
from server.commerce.gateways.gateway_contract import Gateway
from server.commerce.gateways.object_application import ObjectApplication
from server.steps import step_by_step
from storage.commerce.gateway_intents import GatewayIntents

_log = logging.getLogger(__name__)

WINDOW_MS = 600_000
INTERVAL_S = 1.0
LEASE_US = 60_000_000
_FIRST_MS = WINDOW_MS
"""How far before its first start, by our clock, a gateway is read: that clock must not be ahead by more."""


class ChangeReader:
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
        """Read what has changed, then pause, until cancelled."""
        could_not = f"could not read what has changed at the gateway {self._gateway.name}"
        await step_by_step(self.step, _log, could_not, interval_s=INTERVAL_S, sleep=self._sleep)

    async def step(self) -> bool:
        """Apply the changes of the next window; whether there may be more."""
        now_ms = self._clock.wall_ms()
        turn = await self._intents.claim_cursor(self._gateway.name, now_ms - _FIRST_MS, lease_us=LEASE_US)
        if turn is None:
            return False
        lease, read_ms = turn
        settled_ms = now_ms - self._gateway.settle_s * 1000
        until_ms = max(read_ms, min(read_ms + WINDOW_MS, settled_ms))
        try:
            complete_ms = await self._read(lease, read_ms, until_ms)
        except BaseException:
            await self._intents.move_cursor(self._gateway.name, lease, read_ms, pause_us=0)
            raise
        if complete_ms is None:
            return False
        await self._intents.move_cursor(self._gateway.name, lease, complete_ms, pause_us=0)
        return complete_ms == until_ms < settled_ms

    async def _read(self, lease: int, since_ms: int, until_ms: int) -> int | None:
        """Apply a window, and keep the turn meanwhile; up to when it was complete, None if the turn was lost."""
        page: str | None = None
        complete_ms = until_ms
        while since_ms < until_ms:
            found = await self._gateway.list_changed(since_ms, until_ms, page)
            if found.now_ms is not None:
                complete_ms = min(complete_ms, found.now_ms - self._gateway.settle_s * 1000)
            await self._application.apply(found.objects)
            page = found.next_page
            if page is None:
                break
            if not await self._intents.move_cursor(self._gateway.name, lease, since_ms, pause_us=LEASE_US):
                return None
        return max(since_ms, complete_ms)
