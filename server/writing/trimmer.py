"""The trimmer: deletes from the journal, in small steps, old rows that the archive has.

One node runs it for all. A step is repeated without harm after any failure, and in the store one runs at a time.
"""

from __future__ import annotations

import asyncio
import logging

from protocol.kinds import DAY_MS
from server.clock import Clock, Sleep
from server.steps import step_by_step
from storage.trimming import Trimming

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
        await step_by_step(
            self._step,
            _log,
            "could not trim the journal",
            rest_s=REST_S,
            interval_s=SWEEP_INTERVAL_S,
            sleep=self._sleep,
        )

    async def _step(self) -> bool:
        """One step; whether the next one is due at once."""
        step = await self._trimming.trim(self._clock.wall_ms(), kept_ms=self._kept_ms)
        self.rows += step.rows
        return not step.done
