"""Expires payments that are due, in the background: who reads a payment expires it at once, the others need not wait.

Each pass goes through all that is due and has not ended, in the order in which it became due, `step_rows` in each step.
What cannot be expired stays for the next pass, and does not stop the others.
"""

from __future__ import annotations

import asyncio
import logging

from server.clock import Sleep
from server.steps import step_by_step
from storage.commerce.ledger import Ledger
from storage.commerce.money_rows import FIRST_DUE
from storage.unavailable import StorageUnavailableError, WriteRefusedError

_log = logging.getLogger(__name__)

STEP_ROWS = 500
FAILURES_MAX = 5
"""A step that meets more of them ends: it is the database that fails, or a lock that many need."""


class Expirer:
    """Runs until it is cancelled."""

    def __init__(
        self, ledger: Ledger, *, interval_s: float, step_rows: int = STEP_ROWS, sleep: Sleep = asyncio.sleep
    ) -> None:
        self._ledger = ledger
        self._interval_s = interval_s
        self._step_rows = step_rows
        self._sleep = sleep
        self._after = FIRST_DUE

    async def run(self) -> None:
        """Expire what is due, then pause, until cancelled."""
        could_not = "could not expire the payments that are due"
        await step_by_step(self.step, _log, could_not, interval_s=self._interval_s, sleep=self._sleep)

    async def step(self) -> bool:
        """Expire what is due among the next payments; whether there may be more."""
        rows = await self._ledger.list_due(self._after, self._step_rows)
        failures = 0
        for row in rows:
            self._after = row
            try:
                await self._ledger.expire(row.payment)
            except (StorageUnavailableError, WriteRefusedError) as error:
                failures += 1
                if failures > FAILURES_MAX:
                    raise
                _log.warning("could not expire payment %s: %s", row.payment.hex(), error)
        if len(rows) == self._step_rows:
            return True
        self._after = FIRST_DUE
        return False
