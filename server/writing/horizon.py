"""The node's horizon: everything written before it is in the outbox of every live session here.

A horizon read from the database becomes the node's only after all flushes that were under way at that moment have been
answered and delivered. So what lies before it is in every live outbox, ahead of the heartbeat that carries it. It also
stays valid after a crash of the database, which the horizon of a snapshot may not. Therefore no position, not even that
of a sync, is past the node's own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from server.writing.position import Position, to_text
from storage.timelines import Journal
from storage.unavailable import StorageUnavailableError

_log = logging.getLogger(__name__)

Settled = Callable[[], Awaitable[None]]
"""Returns once what was under way has been delivered."""


class Horizon:
    """The horizon of this node, and the positions that carry it."""

    def __init__(self, journal: Journal, *, epoch: int) -> None:
        self.epoch = epoch
        self._journal = journal
        self._horizon = 0

    def position_of(self, principal: bytes) -> str:
        """The position of a session that is live now; empty before the first horizon."""
        return self.position_at(self._horizon, principal) if self._horizon else ""

    def position_at(self, horizon: int, principal: bytes) -> str:
        """The position for a snapshot's horizon: at most the node's own."""
        return to_text(Position(self.epoch, min(horizon, self._horizon), principal))

    def begin_epoch(self, epoch: int) -> None:
        """Forget the horizon: numbers of another epoch mean nothing in this one."""
        self.epoch, self._horizon = epoch, 0

    async def advance(self, *settled: Settled) -> None:
        """Read the horizon, wait until all before it is delivered, then hand it out."""
        epoch, horizon = self.epoch, await self._journal.read_horizon()
        for wait in settled:
            await wait()
        if epoch == self.epoch:
            self._horizon = horizon

    async def run(self, interval_s: float, *settled: Settled) -> None:
        """Advance every `interval_s` until cancelled."""
        while True:
            try:
                await self.advance(*settled)
            except StorageUnavailableError as error:
                _log.warning("the horizon cannot be read, trying again: %s", error)
            await asyncio.sleep(interval_s)
