"""Forgets what was answered long ago: the ids in answers, so that keys keep nothing that points to anybody.

The keys stay for ever, so a late copy still does nothing.
"""

from __future__ import annotations

import asyncio
import logging

from server.clock import Sleep
from server.steps import PURGE_INTERVAL_S, step_by_step
from storage.commerce.ledger import Ledger

_log = logging.getLogger(__name__)

ANSWER_AGE_US = 30 * 86_400_000_000
STEP_ROWS = 500


class Forgetter:
    """Runs until it is cancelled."""

    def __init__(self, ledger: Ledger, *, step_rows: int = STEP_ROWS, sleep: Sleep = asyncio.sleep) -> None:
        self._ledger = ledger
        self._step_rows = step_rows
        self._sleep = sleep

    async def run(self) -> None:
        """Forget what is old enough, then pause, until cancelled."""
        could_not = "could not forget old answers"
        await step_by_step(self.step, _log, could_not, interval_s=PURGE_INTERVAL_S, sleep=self._sleep)

    async def step(self) -> bool:
        """Forget a part; whether there may be more."""
        return await self._ledger.forget_answers(ANSWER_AGE_US, self._step_rows) == self._step_rows
