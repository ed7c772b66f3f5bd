"""What somebody needs of the archive for a write is put back into the journal, where it is judged like any other row.

An edit, a reaction, a reply, a deletion or a receipt may be about an old event. It is refused for now (TARGET_ARCHIVED)
and the event is asked for here, so no lane waits for the archive; the client's next try finds it.

A number of a device that has been passed may be that of a row that has left. So it is searched in the archive, and the
row comes back if there is one: only then, or when there is none, is the repetition answered.

With a message comes what hangs on it, its newest edits and reactions: who erases it must find them.

Invariants: at most `_WANTED_MAX` events and as many numbers are asked for at a time; what is over that, or fails, is
dropped: whoever needs it asks again. What a search found is believed for less time than a row stays that was put back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable

from protocol.bodies import Erased, tag_of
from protocol.ids import to_text
from server.clock import Clock, Sleep
from storage.archive import HANGING, Archive
from storage.rows import TimelineRow
from storage.trimming import Trimming
from storage.unavailable import IncarnationEndedError, StorageUnavailableError

_log = logging.getLogger(__name__)

Number = tuple[bytes, bytes, int]
"""Dialog, device, and the number that the device gave."""

_WANTED_MAX = 10_000
_AT_ONCE = 100
_HANGING_MAX = 1000
_BELIEVED_S = 600.0
PAUSE_S = 1.0
"""After a failure."""


class PutBack:
    """Brings back what `want` is called with, until `run` is cancelled. `rows` counts what was brought."""

    def __init__(
        self, trimming: Trimming, archive: Archive, clock: Clock, *, incarnation: int, sleep: Sleep = asyncio.sleep
    ) -> None:
        self.rows = 0
        self._trimming = trimming
        self._archive = archive
        self._clock = clock
        self._incarnation = incarnation
        self._sleep = sleep
        self._wanted: dict[bytes, set[int]] = {}
        self._count = 0
        self._wake = asyncio.Event()
        self._sought: dict[Number, None] = {}
        self._searched: dict[Number, float] = {}
        """When each of the last searches ended."""

    def want(self, dialog: bytes, seq: int) -> None:
        """Ask for an event that is in the archive only."""
        seqs = self._wanted.get(dialog, set())
        if seq not in seqs and self._count < _WANTED_MAX:
            self._wanted.setdefault(dialog, seqs).add(seq)
            self._count += 1
            self._wake.set()

    def was_back(self, dialog: bytes, device: bytes, n: int, *, at: float) -> bool:
        """Whether the row of a number, if there is one, was back then (monotonic). If not, it is searched for."""
        key = (dialog, device, n)
        searched = self._searched.get(key)
        if searched is not None and searched <= at < searched + _BELIEVED_S:
            return True
        if len(self._sought) < _WANTED_MAX:
            self._sought[key] = None
            self._wake.set()
        return False

    async def run(self) -> None:
        """Bring it, some of a dialog at a time, the dialogs in turn, and between them what is searched for."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._wanted or self._sought:
                if self._wanted:
                    dialog, wanted = next(iter(self._wanted.items()))
                    seqs = sorted(wanted)[:_AT_ONCE]
                    await self._guarded(self._bring(dialog, seqs))
                    self._forget(dialog, seqs)
                if self._sought:
                    number = next(iter(self._sought))
                    await self._guarded(self._search(number))
                    del self._sought[number]

    async def _guarded(self, work: Awaitable[None]) -> None:
        try:
            await work
        except IncarnationEndedError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the node goes on
            expected = isinstance(error, StorageUnavailableError)
            _log.warning("events stay in the archive for now: %s", error, exc_info=not expected)
            await self._sleep(PAUSE_S)

    async def _search(self, number: Number) -> None:
        dialog, device, n = number
        seq = await self._archive.find_written(dialog, device, n)
        if seq is not None:
            await self._bring(dialog, [seq])
        self._searched.pop(number, None)
        self._searched[number] = self._clock.monotonic()
        if len(self._searched) > _WANTED_MAX:
            del self._searched[next(iter(self._searched))]

    async def _bring(self, dialog: bytes, seqs: list[int]) -> None:
        rows = await self._archive.read_rows(dialog, seqs)
        if not rows:
            _log.error("the archive lacks %d events", len(seqs), extra={"dialog": to_text(dialog)})
            return
        live = [row.event.seq for row in rows if row.tag != tag_of(Erased)]
        hanging = [row for seq in live for tag in HANGING for row in await self._read_about(dialog, seq, tag)]
        now_ms = self._clock.wall_ms()
        await self._trimming.put_back([*rows, *hanging], now_ms, incarnation=self._incarnation)
        self.rows += len(rows)  # a page may end early; what it lacks is asked for again

    async def _read_about(self, dialog: bytes, seq: int, tag: int) -> list[TimelineRow]:
        return await self._archive.read_newest_about(dialog, seq, tag, limit=_HANGING_MAX)

    def _forget(self, dialog: bytes, seqs: list[int]) -> None:
        before = self._wanted.pop(dialog)
        left = before.difference(seqs)
        self._count -= len(before) - len(left)
        if left:
            self._wanted[dialog] = left  # at the end: it is the turn of the others
