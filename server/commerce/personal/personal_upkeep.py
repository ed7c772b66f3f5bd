"""What time and crashes leave to do about personal data, in the background.

Keys to erase, what the law wants kept no longer, exports to make and to end.
"""

from __future__ import annotations

import asyncio
import logging

from server.clock import Sleep
from server.commerce.personal.exports import Exports
from server.commerce.personal.held_keys import PersonKeys
from server.steps import step_by_step
from storage.commerce.personal_exports import PersonalExports
from storage.commerce.personal_records import PersonalRecords

_log = logging.getLogger(__name__)

STEP_ROWS = 100
INTERVAL_S = 2.0


class PersonalUpkeep:
    """Runs until it is cancelled."""

    def __init__(
        self,
        records: PersonalRecords,
        stored: PersonalExports,
        person_keys: PersonKeys,
        exports: Exports,
        *,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._records = records
        self._stored = stored
        self._exports = exports
        self._person_keys = person_keys
        self._sleep = sleep

    async def run(self) -> None:
        """Do what is due, then pause, until cancelled."""
        could_not = "could not do what is due of personal data"
        await step_by_step(self.step, _log, could_not, interval_s=INTERVAL_S, sleep=self._sleep)

    async def step(self) -> bool:
        """Do the next part; whether there may be more."""
        ended = await self._records.end_kept_items(STEP_ROWS)
        past = await self._stored.end_past(STEP_ROWS)
        more_keys = await self._person_keys.erase_due()
        more_parts = await self._exports.make_next()
        return more_keys or more_parts or STEP_ROWS in (ended, past)
