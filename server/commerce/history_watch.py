"""Says in the log when the books are in another history than before: restored, or on a standby that was promoted.

The books notice it by themselves with the first step (`books_serve.sql`). This looks without one, so that an operator
reads of it at the start and soon after a promotion.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging

from server.clock import Sleep
from server.steps import step_by_step
from storage.commerce.restored_books import RestoredBooks

_log = logging.getLogger(__name__)

LOOK_EVERY_S = 5.0


class HistoryWatch:
    """Runs until it is cancelled. `synchronous`: a promoted standby lacks nothing, as the operator declares."""

    def __init__(self, books: RestoredBooks, *, synchronous: bool, sleep: Sleep = asyncio.sleep) -> None:
        self._books = books
        self._synchronous = synchronous
        self._sleep = sleep
        self._said: int | None = None

    async def run(self) -> None:
        """Look, then pause, until cancelled."""
        could_not = "could not compare the history of the books"
        await step_by_step(self.step, _log, could_not, interval_s=LOOK_EVERY_S, sleep=self._sleep)

    async def step(self) -> bool:
        """Compare; there is never more at once."""
        state = await self._books.settle(synchronous=self._synchronous)
        if state.noticed_us is not None and state.noticed_us != self._said:
            _log.error(
                "the books were restored, or a standby was promoted: they are read-only until "
                "`tchat commerce reconcile --accept`; the newest thing that they know is of %s",
                as_time(state.known_us),
            )
        elif state.noticed_us is None and self._said is not None:
            _log.warning("the books are accepted, and serve again")
        self._said = state.noticed_us
        return False


def as_time(at_us: int | None) -> str:
    """A time in UTC, for people."""
    if at_us is None:
        return "never: they are empty"
    return dt.datetime.fromtimestamp(at_us / 1_000_000, dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
