"""The trimmer: deletes from the journal, in small steps, old rows that the archive has.

One node runs it for all. A step is repeated without harm after any failure, and in the store one runs at a time.
"""

from __future__ import annotations

import asyncio
import logging

from protocol.kinds import DAY_MS
from server.clock import Clock, Sleep
from storage.trimming import Trimming
from storage.unavailable import StorageUnavailableError

_log = logging.getLogger(__name__)

REST_S = 0.05
"""Pause between two steps of a sweep: several times as long as a step, so that it takes little of the disk."""
SWEEP_INTERVAL_S = 3600.0


class Trimmer:
    """Sweeps through the journal, until cancelled. `rows` counts what this node's steps have deleted."""

    def __init__(self, trimming: Trimming, clock: Clock, *, kept_days: int, sleep: Sleep = asyncio.sleep) -> None:
        self.rows = 0
        self._trimming = trimming
        self._clock = clock
        self._kept_ms = kept_days * DAY_MS
        self._sleep = sleep

    async def run(self) -> None:
        """Step by step through the journal, then again after a while."""
        while True:
            await self._sleep(SWEEP_INTERVAL_S if await self._step() else REST_S)

    async def _step(self) -> bool:
        """One step; whether there is nothing more to do for now."""
        try:
            step = await self._trimming.trim(self._clock.wall_ms(), kept_ms=self._kept_ms)
        except Exception as error:  # noqa: BLE001 - whatever it is, the node goes on
            expected = isinstance(error, StorageUnavailableError)
            _log.warning("could not trim the journal, will try again: %s", error, exc_info=not expected)
            return True
        self.rows += step.rows
        return step.done
