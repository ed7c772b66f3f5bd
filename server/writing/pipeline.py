"""The write pipeline: a few lanes, a dialog always in the same one."""

from __future__ import annotations

import asyncio
import itertools

from server.clock import Clock, Sleep
from server.config.settings import PipelineSettings
from server.writing.durable import Route
from server.writing.lane import Done, Lane
from storage.rows import ChangeEntry, Entry, Verdict
from storage.timelines import Journal


class Pipeline:
    """Entries in, verdicts out. `submit` is called on the loop; `run` holds the lanes until it is cancelled."""

    def __init__(
        self,
        journal: Journal,
        route: Route,
        settings: PipelineSettings,
        clock: Clock,
        *,
        incarnation: int,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        flush_numbers = itertools.count(1)
        self._lanes = [
            Lane(
                journal,
                route,
                settings,
                clock,
                incarnation=incarnation,
                flush_numbers=flush_numbers,
                sleep=sleep,
            )
            for _ in range(settings.lanes)
        ]

    def submit(self, entry: Entry | ChangeEntry, done: Done) -> None:
        """Queue an entry; `done` gets its verdict, at once (UNAVAILABLE) if the lane is full."""
        self._lanes[entry.dialog[-1] % len(self._lanes)].submit(entry, done)

    async def append(self, entry: Entry | ChangeEntry) -> Verdict:
        """Queue an entry and wait for its verdict."""
        future: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()

        def done(verdict: Verdict) -> None:
            if not future.done():
                future.set_result(verdict)

        self.submit(entry, done)
        return await future

    async def run(self) -> None:
        """Flush until cancelled."""
        async with asyncio.TaskGroup() as group:
            for lane in self._lanes:
                group.create_task(lane.run())

    async def wait_settled(self) -> None:
        """Return once every flush that is under way now has been answered and routed."""
        await asyncio.gather(*(lane.wait_settled() for lane in self._lanes))

    async def wait_drained(self) -> None:
        """Return once nothing is queued or under way."""
        while any(lane.busy for lane in self._lanes):
            await self.wait_settled()

    @property
    def queued(self) -> int:
        """Entries that wait, over all lanes."""
        return sum(lane.queued for lane in self._lanes)

    @property
    def flushes(self) -> int:
        """Flushes that were answered since the start."""
        return sum(lane.flushes for lane in self._lanes)

    @property
    def rows(self) -> int:
        """Entries that got a verdict of the store since the start."""
        return sum(lane.rows for lane in self._lanes)
