"""A write pipeline on a real journal: faults at its seam, a log of what it did, a clock that its pauses move."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

from server.busyness import Busyness
from server.config.settings import PipelineSettings
from server.writing.durable import DurableEvents
from server.writing.pipeline import Pipeline
from storage.rows import ChangeEntry, Entry, Verdict
from tests.support.clock import ManualClock
from tests.support.faulty import FaultyJournal
from tests.support.world import World


class Lanes:
    """A pipeline, what it routed, and a clock that its back-off moves."""

    def __init__(self, world: World, clock: ManualClock, settings: PipelineSettings) -> None:
        self.journal = FaultyJournal(world)
        self.routed: list[DurableEvents] = []
        self.log: list[str] = []
        self.faults: list[Exception] = []
        self.clock = clock
        incarnation, busyness = world.incarnation, Busyness(clock)
        self.pipeline = Pipeline(
            self.journal, self._route, settings, clock, busyness, incarnation=incarnation, sleep=self._sleep
        )

    def _route(self, appended: Sequence[DurableEvents]) -> None:
        if self.faults:
            raise self.faults.pop()
        self.routed.extend(appended)
        self.log.extend(f"routed {row.seq}" for item in appended for row in item.events)

    async def _sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)
        await self.journal.rests.wait()  # else how long the store takes would decide who gives up
        self.clock.advance(seconds)

    def submit(self, entry: Entry | ChangeEntry) -> asyncio.Future[Verdict]:
        """Submit an entry; the future of its verdict."""
        future: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()

        def done(verdict: Verdict) -> None:
            self.log.append(f"done {verdict.seq}")
            future.set_result(verdict)

        self.pipeline.submit(entry, done)
        return future

    @property
    def routed_seqs(self) -> list[int]:
        """The numbers of the events that were handed to delivery."""
        return [row.seq for item in self.routed for row in item.events]


@contextlib.asynccontextmanager
async def lanes(world: World, clock: ManualClock, **settings: float) -> AsyncIterator[Lanes]:
    """A running pipeline of two lanes, or with other settings."""
    made = Lanes(world, clock, PipelineSettings(**{"lanes": 2, **settings}))  # type: ignore[arg-type]
    work = asyncio.ensure_future(made.pipeline.run())
    yield made
    work.cancel()
    await asyncio.wait({work})
