"""The purge of deleted dialogs: what is left of them after their grace, in PostgreSQL and in the archive, step by step.

One node runs it for all. A step is repeated without harm after any failure. The archive deletes a dialog after the
journal has, and with the timestamp of an erasure: a row that a mover still has in its hands does not come back.
"""

from __future__ import annotations

import asyncio
import logging

from protocol.kinds import DAY_MS
from server.clock import Clock, Sleep
from server.config.settings import EraserSettings
from server.steps import PURGE_INTERVAL_S, step_by_step
from storage.archive import Archive
from storage.deleted_dialogs import DeletedDialogs
from storage.unavailable import NoArchiveError

_log = logging.getLogger(__name__)


class DialogPurge:
    """Purges dialogs, until cancelled. `rows` counts what its steps looked at, `looks` how often it ended a dialog."""

    def __init__(
        self,
        deleted: DeletedDialogs,
        archive: Archive | None,
        settings: EraserSettings,
        clock: Clock,
        *,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.rows = 0
        self.looks = 0
        self._deleted = deleted
        self._archive = archive
        self._step_rows = settings.step_rows
        self._grace_ms = settings.dialog_deletion_grace_days * DAY_MS
        self._clock = clock
        self._sleep = sleep

    async def run(self) -> None:
        """Step by step while the grace of a dialog is over, then every `PURGE_INTERVAL_S`."""
        await step_by_step(
            self.purge_some,
            _log,
            "could not purge a deleted dialog",
            interval_s=PURGE_INTERVAL_S,
            sleep=self._sleep,
        )

    async def purge_some(self) -> bool:
        """One step; whether the next one is due at once. Raises StorageUnavailableError."""
        now_ms = self._clock.wall_ms()
        step = await self._deleted.purge_some(now_ms, grace_ms=self._grace_ms, limit=self._step_rows)
        self.rows += step.rows
        if (look := step.ended) is not None:
            if self._archive is not None:
                await self._archive.delete_dialog(look.dialog, look.last_seq, epoch=look.epoch)
            elif look.archived:
                raise NoArchiveError
            await self._deleted.finish(look, now_ms, grace_ms=self._grace_ms)
            self.looks += 1
        return step.more
