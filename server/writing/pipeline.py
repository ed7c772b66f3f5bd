"""The write pipeline: a few lanes, a dialog always in the same one."""

from __future__ import annotations

import asyncio

from server.busyness import Busyness
from server.clock import Clock, Sleep
from server.config.settings import PipelineSettings
from server.writing.durable import Route
from server.writing.flusher import Flusher
from server.writing.lane import Lane
from server.writing.put_back import PutBack
from server.writing.set_aside import SetAside
from server.writing.submission import Backlog, OnVerdict
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
        busyness: Busyness,
        *,
        incarnation: int,
        put_back: PutBack | None = None,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._settings = settings
        self.flusher = Flusher(journal, route, clock, incarnation=incarnation, put_back=put_back)
        """What counts the flushes."""
        self._aside = SetAside(self.flusher, pause_s=settings.retry_max_s, sleep=sleep)
        self.backlog = Backlog(settings)
        """What waits for the lanes."""
        self._lanes = [
            Lane(self.flusher, self._aside, self.backlog, settings, clock, busyness=busyness, sleep=sleep)
            for _ in range(settings.lanes)
        ]

    def submit(self, entry: Entry | ChangeEntry, done: OnVerdict) -> None:
        """Queue an entry; its verdict comes at once (UNAVAILABLE) if there is no room, or its dialog is set aside."""
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
            group.create_task(self._aside.run())
            for lane in self._lanes:
                group.create_task(lane.run())

    async def wait_settled(self) -> None:
        """Return once every flush that is under way now, and all that is set aside, has been answered and routed."""
        await asyncio.gather(*(lane.wait_settled() for lane in self._lanes))
        await self._aside.wait_settled()

    async def wait_drained(self) -> None:
        """Return once nothing is queued, under way or set aside."""
        while self._aside or any(lane.busy for lane in self._lanes):
            await self.wait_settled()

    def find_stall(self) -> str:
        """What keeps a lane from storing what it is given, as a sentence; empty when nothing does."""
        if self.oldest_flush_s >= self._settings.retry_total_s:
            return f"a lane of the write pipeline has waited {self.oldest_flush_s:.0f} s for an answer of the store"
        return ""

    @property
    def oldest_flush_s(self) -> float:
        """How long the lane that has waited longest has had work without an answer of the store."""
        return max(lane.stalled_s for lane in self._lanes)

    @property
    def set_aside(self) -> int:
        """Dialogs that are set aside."""
        return len(self._aside)
