"""The node's horizon: everything written before it is in the outbox of every live session here.

A horizon read from the database becomes the node's only after all flushes that were under way at that moment have been
answered and delivered. So what lies before it is in every live outbox, ahead of the heartbeat that carries it. It also
stays valid after a crash of the database, which the horizon of a snapshot may not. Therefore no position, not even that
of a sync, is past the node's own. While entries are set aside (`set_aside.py`) the horizon stands still: they may be
durable, and they are in no outbox here.

Any writing transaction in the whole PostgreSQL cluster holds the horizon while it is open, and with it every client's
position. So its age is watched.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from server.clock import Clock
from server.writing.position import Position, Positions
from storage.rows import HorizonReading
from storage.timelines import Journal
from storage.unavailable import IncarnationEndedError, OtherHistoryError, StorageUnavailableError

_log = logging.getLogger(__name__)

OLD_S = 10.0
"""A horizon older than this is worth a warning; it is 1 to 2 s old when nothing holds it."""
_WARN_EVERY_S = 60.0

Settled = Callable[[], Awaitable[None]]
"""Returns once what was under way has been delivered."""


class Horizon:
    """The horizon of this node, and the positions that carry it; `settled` are all that deliver."""

    def __init__(
        self,
        journal: Journal,
        positions: Positions,
        clock: Clock,
        *settled: Settled,
        epoch: int,
        incarnation: int,
    ) -> None:
        self.epoch = epoch
        self.on_other_history: Callable[[], None] = _do_nothing
        """Called when a reading finds another history of the database than that of the epoch."""
        self._journal = journal
        self._positions = positions
        self._clock = clock
        self._settled = settled
        self._incarnation = incarnation
        self._horizon = 0
        self._covered_at = self._looked_at = clock.monotonic()
        self._next_xid = 0
        self._warned_at = -_WARN_EVERY_S
        self._settling_since = 0.0
        """Since when what was under way is waited for; 0: it is not."""

    @property
    def age_s(self) -> float:
        """All that was written longer ago than this lies before the horizon."""
        return self._clock.monotonic() - self._covered_at

    def read_position(self, text: str, principal: bytes) -> Position | None:
        """A client's position, if it is one of this principal."""
        return self._positions.read(text, principal)

    def since(self, position: Position | None) -> int | None:
        """The horizon from which its client goes on; None if it is of another epoch, or too old."""
        return position.horizon if position is not None and position.epoch == self.epoch else None

    def position_of(self, principal: bytes) -> str:
        """The position of a session that is live now; empty before the first horizon."""
        return self.position_at(self._horizon, principal) if self._horizon else ""

    def position_at(self, horizon: int, principal: bytes) -> str:
        """The position for a snapshot's horizon: at most the node's own."""
        return self._positions.issue(self.epoch, min(horizon, self._horizon), principal)

    def begin_epoch(self, epoch: int) -> None:
        """Forget the horizon: numbers of another epoch mean nothing in this one."""
        self.epoch, self._horizon, self._next_xid = epoch, 0, 0

    @property
    def reached(self) -> int:
        """The horizon that is handed out; 0 before the first."""
        return self._horizon

    async def advance(self) -> None:
        """Read the horizon, wait until all before it is delivered, then hand it out."""
        epoch, looked_at = self.epoch, self._clock.monotonic()
        reading = await self._journal.read_horizon(incarnation=self._incarnation)
        await self.settle(reading, epoch=epoch, looked_at=looked_at)

    async def settle(self, reading: HorizonReading, *, epoch: int, looked_at: float) -> None:
        """Wait until all that was under way has been delivered, then hand out a horizon that was read before."""
        self._settling_since = self._clock.monotonic()
        for wait in self._settled:
            await wait()
        self._settling_since = 0.0
        if epoch != self.epoch:
            return
        self._horizon = reading.horizon
        if reading.horizon >= self._next_xid:  # it has passed all that had begun when we looked before
            self._covered_at, self._looked_at, self._next_xid = self._looked_at, looked_at, reading.next_xid

    async def run(self, interval_s: float) -> None:
        """Advance every `interval_s` until cancelled. Raises IncarnationEndedError when another node has taken over."""
        while True:
            try:
                await self.advance()
                await self.warn_if_old()
            except IncarnationEndedError:
                raise
            except OtherHistoryError:
                self.on_other_history()
            except StorageUnavailableError as error:
                _log.warning("the horizon cannot be read, trying again: %s", error)
            except Exception:  # noqa: BLE001 - positions stand still, and everything else goes on
                _log.exception("the horizon cannot be read, trying again")
            await asyncio.sleep(interval_s)

    async def warn_if_old(self, unheard: str = "") -> None:
        """Log what holds the horizon, at most once a minute; `unheard` is a node that is not heard as far as it."""
        now = self._clock.monotonic()
        if self.age_s < OLD_S or now - self._warned_at < _WARN_EVERY_S:
            return
        self._warned_at = now
        if self._settling_since and now - self._settling_since > OLD_S / 2:
            holder = "what this node writes has no answer, or is not delivered"
        elif unheard:
            holder = f"{unheard} is not heard"
        else:
            writer = await self._journal.find_oldest_writer()
            holder = f"PostgreSQL has an open writing transaction ({writer}); end it"
        _log.warning("clients' positions are %.0f s old: %s", self.age_s, holder)


def _do_nothing() -> None: ...
