"""What somebody needs of the archive for a write is put back into the journal, where it is judged like any other row.

An edit, a reaction, a reply, a deletion or a receipt may be about an old event. It is refused for now (TARGET_ARCHIVED)
and the event is asked for here, so no lane waits for the archive; the client's next try finds it.

With a message comes what hangs on it, its newest edits and reactions: who erases it must find them.

Invariants: at most `_WANTED_MAX` events are asked for at a time; what is over that, or fails, is dropped: whoever needs
it asks again.
"""

from __future__ import annotations

import asyncio
import logging

from protocol.bodies import Edited, Erased, Reacted, tag_of
from protocol.ids import to_text
from server.clock import Clock, Sleep
from storage.archive import Archive
from storage.rows import TimelineRow
from storage.trimming import Trimming
from storage.unavailable import IncarnationEndedError, StorageUnavailableError

_log = logging.getLogger(__name__)

_WANTED_MAX = 10_000
_AT_ONCE = 100
_HANGING_MAX = 1000
_HANGING = (tag_of(Edited), tag_of(Reacted))
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

    def want(self, dialog: bytes, seq: int) -> None:
        """Ask for an event that is in the archive only."""
        seqs = self._wanted.get(dialog, set())
        if seq not in seqs and self._count < _WANTED_MAX:
            self._wanted.setdefault(dialog, seqs).add(seq)
            self._count += 1
            self._wake.set()

    async def run(self) -> None:
        """Bring it, some of a dialog at a time, the dialogs in turn."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._wanted:
                await self._bring_some()

    async def _bring_some(self) -> None:
        dialog, wanted = next(iter(self._wanted.items()))
        seqs = sorted(wanted)[:_AT_ONCE]
        try:
            rows = await self._archive.read_rows(dialog, seqs)
            if rows:
                live = [row.event.seq for row in rows if row.tag != tag_of(Erased)]
                hanging = [row for seq in live for tag in _HANGING for row in await self._read_about(dialog, seq, tag)]
                now_ms = self._clock.wall_ms()
                await self._trimming.put_back([*rows, *hanging], now_ms, incarnation=self._incarnation)
        except IncarnationEndedError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the node goes on
            expected = isinstance(error, StorageUnavailableError)
            _log.warning("%d events stay in the archive for now: %s", len(seqs), error, exc_info=not expected)
            await self._sleep(PAUSE_S)
        else:
            self.rows += len(rows)
            # A page may end early; what it lacks is asked for again.
            if not rows:
                _log.error("the archive lacks %d events", len(seqs), extra={"dialog": to_text(dialog)})
        self._forget(dialog, seqs)

    async def _read_about(self, dialog: bytes, seq: int, tag: int) -> list[TimelineRow]:
        return await self._archive.read_newest_about(dialog, seq, tag, limit=_HANGING_MAX)

    def _forget(self, dialog: bytes, seqs: list[int]) -> None:
        before = self._wanted.pop(dialog)
        left = before.difference(seqs)
        self._count -= len(before) - len(left)
        if left:
            self._wanted[dialog] = left  # at the end: it is the turn of the others
