"""How far every live session has been told: the horizon that heartbeats hand out as a position.

A horizon read from the database becomes the node's only after all flushes that were under way at that
moment have been answered and delivered. So whatever lies before it is in the outbox of every live session,
ahead of the heartbeat that carries it. It outlives a crash of the database, which that of a snapshot may not:
so no position that is handed out, a sync's neither, passes the node's own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from server.writing.position import Position, to_text
from storage.postgres.pool import StorageUnavailableError
from storage.timelines import Journal

_log = logging.getLogger(__name__)

Settled = Callable[[], Awaitable[None]]


class Horizon:
    """See the module. `number_passed` are awaited in order: the pipeline, then what it routed."""

    def __init__(self, journal: Journal, *, epoch: int) -> None:
        self.epoch = epoch
        self._journal = journal
        self._horizon = 0

    def position(self, principal: bytes) -> str:
        """The position of a session that is live now; empty before the first horizon."""
        return self.text(self._horizon, principal) if self._horizon else ""

    def text(self, horizon: int, principal: bytes) -> str:
        """The position text for a horizon."""
        return to_text(Position(self.epoch, horizon, principal))

    def begin(self, epoch: int) -> None:
        """Begin an epoch: what was read of another means nothing in it."""
        self.epoch, self._horizon = epoch, 0

    def lasting(self, horizon: int) -> int:
        """As much of a snapshot's horizon as may be handed out."""
        return min(horizon, self._horizon)

    async def advance(self, *settled: Settled) -> None:
        """Read the horizon, wait until all before it is delivered, then hand it out."""
        epoch, horizon = self.epoch, await self._journal.horizon()
        for done in settled:
            await done()
        if epoch == self.epoch:
            self._horizon = horizon

    async def run(self, interval_s: float, *settled: Settled) -> None:
        """Advance every `interval_s`, for ever."""
        while True:
            try:
                await self.advance(*settled)
            except StorageUnavailableError as error:
                _log.warning("the horizon stands still: %s", error)
            await asyncio.sleep(interval_s)
