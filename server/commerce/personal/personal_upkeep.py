"""What time and crashes leave to do about personal data, in the background: keys to erase, what is kept long enough."""

from __future__ import annotations

import asyncio
import logging

from server.clock import Sleep
from server.commerce.personal.held_keys import PersonKeys
from server.steps import step_by_step
from storage.commerce.personal_records import PersonalRecords

_log = logging.getLogger(__name__)

STEP_ROWS = 100
INTERVAL_S = 5.0


class PersonalUpkeep:
    """Runs until it is cancelled."""

    def __init__(self, records: PersonalRecords, person_keys: PersonKeys, *, sleep: Sleep = asyncio.sleep) -> None:
        self._records = records
        self._person_keys = person_keys
        self._sleep = sleep

    async def run(self) -> None:
        """Do what is due, then pause, until cancelled."""
        could_not = "could not erase what is due of personal data"
        await step_by_step(self.step, _log, could_not, interval_s=INTERVAL_S, sleep=self._sleep)

    async def step(self) -> bool:
        """Do the next part; whether there may be more."""
        ended = await self._records.end_kept_items(STEP_ROWS)
        more_keys = await self._person_keys.erase_due()
        return more_keys or ended == STEP_ROWS
