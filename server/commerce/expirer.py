"""Expires payments that are due, in the background: who reads a payment expires it at once, the others need not wait.

It goes through payments in the order in which they become due, `step_rows` in each step, and remembers how far it came.
Then it goes back by OVERLAP_US: what could not be expired, or committed late, is looked at again.
"""

from __future__ import annotations

import asyncio
import logging

from server.clock import Sleep
from server.steps import step_by_step
from storage.commerce.ledger import Ledger

_log = logging.getLogger(__name__)

STEP_ROWS = 500
OVERLAP_US = 600_000_000


class Expirer:
    """Runs until it is cancelled."""

    def __init__(
        self, ledger: Ledger, *, interval_s: float, step_rows: int = STEP_ROWS, sleep: Sleep = asyncio.sleep
    ) -> None:
        self._ledger = ledger
        self._interval_s = interval_s
        self._step_rows = step_rows
        self._sleep = sleep
        self._since_us = 0

    async def run(self) -> None:
        """Expire what is due, then pause, until cancelled."""
        could_not = "could not expire the payments that are due"
        await step_by_step(self.step, _log, could_not, interval_s=self._interval_s, sleep=self._sleep)

    async def step(self) -> bool:
        """Expire what is due among the next payments; whether there may be more."""
        rows = await self._ledger.list_due(self._since_us, self._step_rows)
        for row in rows:
            if row.pending:
                await self._ledger.expire(row.payment)
        if len(rows) == self._step_rows:
            last_us = rows[-1].expires_us
            self._since_us = last_us if last_us > self._since_us else last_us + 1
            return True
        self._since_us = max(0, (rows[-1].expires_us if rows else self._since_us) - OVERLAP_US)
        return False
