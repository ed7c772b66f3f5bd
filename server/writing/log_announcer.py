"""Says in the sealed dialogs of a person that their device log has grown, in small steps.

One node does it for all, one dialog after the other, so a person with thousands of dialogs delays nobody's messages.
What was said is noted after it is durable; a step that is repeated says nothing twice (`change_devices_changed.sql`).
"""

from __future__ import annotations

import asyncio
import logging

from protocol.bodies import DevicesChanged
from protocol.ids import NIL
from server.clock import Sleep
from server.steps import step_by_step
from server.writing.pipeline import Pipeline
from storage.rows import ChangeEntry, VerdictCode
from storage.sealed_rosters import SealedRosters

_log = logging.getLogger(__name__)

DIALOGS_PER_STEP = 50
_INTERVAL_S = 0.5
"""How long a device that was added may have to wait until others encrypt for it."""


class LogAnnouncer:
    """Announces device logs, until cancelled."""

    def __init__(self, rosters: SealedRosters, pipeline: Pipeline, *, sleep: Sleep = asyncio.sleep) -> None:
        self._rosters = rosters
        self._pipeline = pipeline
        self._sleep = sleep

    async def run(self) -> None:
        """Step by step while there is something to say, else look every half a second."""
        await step_by_step(
            self.announce_some, _log, "could not announce a device log", interval_s=_INTERVAL_S, sleep=self._sleep
        )

    async def announce_some(self) -> bool:
        """One step for the person whose turn it is; whether the next one is due at once.

        A dialog that cannot take it now holds up the person's later ones, and nobody else's.
        """
        step = await self._rosters.next_announcement(limit=DIALOGS_PER_STEP)
        if step is None:
            return False
        before = step.after
        body = DevicesChanged(step.principal, step.log)
        for dialog in step.dialogs:
            verdict = await self._pipeline.append(ChangeEntry(dialog, step.principal, NIL, 0, body))
            if verdict.code is VerdictCode.UNAVAILABLE:
                await self._rosters.note_announced(step, before)
                return before != step.after
            before = dialog
        await self._rosters.note_announced(step, None if step.last else step.reached)
        return True
