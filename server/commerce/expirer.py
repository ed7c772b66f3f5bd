"""Expires payments that are due, in the background: who reads a payment expires it at once, the others need not wait.

It goes through payments in the order in which they become due, STEP_ROWS in each step, and remembers how far it came.
After each pass it goes back by OVERLAP_US: what could not be expired, or committed late, is looked at again.
"""

from __future__ import annotations

import asyncio
import logging

from server.clock import Sleep
from storage.commerce.ledger import Ledger
from storage.unavailable import StorageUnavailableError, WriteRefusedError

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
        """Expire what is due, then pause, for ever."""
        while True:
            try:
                while await self.step():
                    pass
            except (StorageUnavailableError, WriteRefusedError) as error:
                _log.warning("payments that are due cannot be expired now: %s", error)
            self._since_us = max(0, self._since_us - OVERLAP_US)
            await self._sleep(self._interval_s)

    async def step(self) -> bool:
        """Expire what is due among the next payments; whether there may be more."""
        rows = await self._ledger.list_due(self._since_us, self._step_rows)
        for row in rows:
            if row.pending:
                await self._ledger.expire(row.payment)
        if rows:
            last_us = rows[-1].expires_us
            self._since_us = last_us if last_us > self._since_us else last_us + 1
        return len(rows) == self._step_rows
