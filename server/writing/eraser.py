"""The eraser: erases in small steps what is due, and never delays a write.

Due are messages whose own time is over, messages older than their dialog keeps them, and what hangs on erased
messages. One node runs it for all. A step is repeated without harm after any failure, and in the store one runs at a
time.
"""

from __future__ import annotations

import asyncio
import logging

from server.clock import Clock, Sleep
from server.config.settings import EraserSettings
from server.steps import step_by_step
from server.writing.put_back import PutBack
from storage.timelines import Journal

_log = logging.getLogger(__name__)

_PUT_BACK_AT_ONCE = 1000
"""Events of a dialog that have left the journal, and whose retention has begun since."""


class Eraser:
    """Erases what is due, until cancelled. `rows` counts what its steps did, rows that were put off included."""

    def __init__(
        self,
        journal: Journal,
        settings: EraserSettings,
        clock: Clock,
        *,
        put_back: PutBack | None = None,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.rows = 0
        self._journal = journal
        self._settings = settings
        self._clock = clock
        self._put_back = put_back
        self._sleep = sleep
        self._oldest_due_ms: int | None = None

    @property
    def lag_s(self) -> float:
        """For how long the oldest of what is due waits, as far as this node's last step saw; 0: nothing waits."""
        if self._oldest_due_ms is None:
            return 0.0
        return max(0, self._clock.wall_ms() - self._oldest_due_ms) / 1000

    async def run(self) -> None:
        """Step by step while something is due, then every `interval_s`."""
        try:
            await step_by_step(
                self._step,
                _log,
                "could not erase what is due",
                interval_s=self._settings.interval_s,
                sleep=self._sleep,
            )
        finally:
            self._oldest_due_ms = None  # another node knows from now on

    async def _step(self) -> bool:
        """One step; whether the next one is due at once."""
        step = await self._journal.erase_due(self._clock.wall_ms(), limit=self._settings.step_rows)
        self.rows += step.rows
        self._oldest_due_ms = step.oldest_due_ms
        if step.lacking is not None and self._put_back is not None:
            dialog, first, last = step.lacking
            for seq in range(first, min(last, first + _PUT_BACK_AT_ONCE - 1) + 1):
                self._put_back.want(dialog, seq)
        return step.more
