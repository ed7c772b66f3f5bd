"""The real journal and timelines, which raise injected faults before or after the real call."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

from storage.postgres.journal import PostgresJournal
from storage.postgres.timelines import PostgresTimelines
from storage.rows import ChangeEntry, ChangeResult, DialogRoster, Entry, Verdict
from storage.unavailable import StorageUnavailableError
from tests.support.world import World


class FaultyJournal(PostgresJournal):
    """`before` and `after` hold exceptions to raise, one per call (None: none), before or after the real call.

    A flush with one of the dialogs in `deaf` always raises `fault`: before the real call, or after it if `stored`.
    `asked` counts the flushes with a dialog in them; `rests` is set while the store works on none.
    """

    def __init__(self, world: World) -> None:
        super().__init__(world.pool, world.writes or world.pool)
        self.before: list[Exception | None] = []
        self.after: list[Exception | None] = []
        self.deaf: frozenset[bytes] = frozenset()
        self.fault: Exception = StorageUnavailableError("the reply was lost")
        self.stored = False
        self.asked: Counter[bytes] = Counter()
        self.rests = asyncio.Event()
        self.rests.set()
        self._under_way = 0
        self.calls: list[int] = []
        self.gate: asyncio.Event | None = None
        self.entered = asyncio.Event()

    async def flush(self, entries: Sequence[Entry], *, incarnation: int, flush_no: int, wait: bool) -> list[Verdict]:
        dialogs = {entry.dialog for entry in entries}
        self.asked.update(dialogs)
        is_deaf = not self.deaf.isdisjoint(dialogs)
        if is_deaf and not self.stored:
            self.entered.set()
            raise self.fault
        await self._arrive(len(entries))
        self._under_way += 1
        self.rests.clear()
        try:
            verdicts = await super().flush(entries, incarnation=incarnation, flush_no=flush_no, wait=wait)
        finally:
            self._under_way -= 1
            if not self._under_way:
                self.rests.set()
        if is_deaf:
            raise self.fault
        self._leave()
        return verdicts

    async def change(self, entry: ChangeEntry, *, incarnation: int, flush_no: int) -> ChangeResult:
        await self._arrive(0)
        result = await super().change(entry, incarnation=incarnation, flush_no=flush_no)
        self._leave()
        return result

    async def _arrive(self, rows: int) -> None:
        self.calls.append(rows)
        self.entered.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.before and (fault := self.before.pop(0)) is not None:
            raise fault

    def _leave(self) -> None:
        if self.after and (fault := self.after.pop(0)) is not None:
            raise fault


class FaultyTimelines(PostgresTimelines):
    """Rosters that fail (`failing` times, or with `fault`), or are `stale`, before the real one answers.

    `gate` holds them back.
    """

    def __init__(self, world: World) -> None:
        super().__init__(world.pool)
        self.failing = 0
        self.fault: Exception | None = None
        self.stale: list[DialogRoster] = []
        self.reads = 0
        self.gate: asyncio.Event | None = None

    async def read_roster(self, dialog: bytes) -> DialogRoster:
        self.reads += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        if self.failing:
            self.failing -= 1
            raise StorageUnavailableError("injected")
        if self.stale:
            return self.stale.pop(0)
        return await super().read_roster(dialog)
