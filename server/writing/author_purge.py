"""Erases what purged people wrote in the dialogs of others, in the journal and in the archive, step by step.

One node runs it for all. A step is repeated without harm after any failure. Nothing is erased in the archive from here:
each row is noted as erased in the database, and the mover sends that, as it does with every erasure. So a mover that
still has such a row in its hands does not bring it back.
"""

from __future__ import annotations

import asyncio
import logging

from server.clock import Clock, Sleep
from server.config.settings import EraserSettings
from server.steps import PURGE_INTERVAL_S, step_by_step
from storage.archive import WRITTEN_MAX, Archive
from storage.purged_authors import NUMBERS_TOGETHER, LeftNumbers, PurgedAuthors
from storage.unavailable import NoArchiveError

_log = logging.getLogger(__name__)


class AuthorPurge:
    """Erases what purged people wrote, until cancelled. `rows` counts what its steps looked at."""

    def __init__(
        self,
        authors: PurgedAuthors,
        archive: Archive | None,
        settings: EraserSettings,
        clock: Clock,
        *,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.rows = 0
        self._authors = authors
        self._archive = archive
        self._step_rows = settings.step_rows
        self._clock = clock
        self._sleep = sleep

    async def run(self) -> None:
        """Step by step while somebody is due, then every `PURGE_INTERVAL_S`."""
        await step_by_step(
            self.erase_some,
            _log,
            "could not erase what a purged person wrote",
            interval_s=PURGE_INTERVAL_S,
            sleep=self._sleep,
        )

    async def erase_some(self) -> bool:
        """One step; whether the next one is due at once. Raises StorageUnavailableError."""
        now_ms = self._clock.wall_ms()
        step = await self._authors.erase_some(now_ms, limit=self._step_rows)
        self.rows += step.rows
        if step.left is not None:
            await self._erase_left(step.left, now_ms)
        return step.more

    async def _erase_left(self, left: LeftNumbers, now_ms: int) -> None:
        if self._archive is None:
            raise NoArchiveError
        last = left.first + NUMBERS_TOGETHER - 1
        page = await self._archive.list_written(left.device, left.first, last, after=left.after, limit=WRITTEN_MAX)
        await self._authors.erase_left(left, now_ms, keys=page.keys, reached=page.reached)
        self.rows += len(page.keys)
