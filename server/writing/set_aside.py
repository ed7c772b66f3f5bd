"""Entries that the store did not answer while it answered others: tried again by themselves, beside the lanes.

Such an entry stood in the way of its lane (a statement that runs into its time-out, a lock that somebody holds). Its
submitter got UNAVAILABLE; the store may have stored it or may still do so. Its dialog waits with it: nothing later
of that dialog is flushed before it, so the order holds. Once the store answers, what is durable is routed and the
dialog is free.

Until then `wait_settled` does not return, so the node's horizon stands still: a row that is durable, but in no
outbox here, lies past every position that the node hands out. Clients keep their older positions meanwhile: a resume
brings more than it must, never less.

Bounds: `DIALOGS_MAX` dialogs at once. Beyond that an entry stays in its lane, which stands still and says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque

from protocol.ids import to_text
from server.clock import Sleep
from server.writing.flusher import Flusher
from server.writing.submission import UNAVAILABLE, Submission
from storage.rows import VerdictCode
from storage.unavailable import IncarnationEndedError, WriteRefusedError

_log = logging.getLogger(__name__)

DIALOGS_MAX = 16


class _Held:
    """The entries of one dialog, oldest first; `answered` when none is left."""

    def __init__(self) -> None:
        self.entries: deque[Submission] = deque()
        self.answered = asyncio.Event()


class SetAside:
    """What was set aside on this node. `run` tries it again until it is cancelled."""

    def __init__(self, flusher: Flusher, *, pause_s: float, sleep: Sleep) -> None:
        self._flusher = flusher
        self._pause_s = pause_s
        self._sleep = sleep
        self.held: dict[bytes, _Held] = {}
        """By dialog: nothing else of these dialogs may be flushed now. Not to be changed from outside."""
        self._wake = asyncio.Event()

    def __len__(self) -> int:
        """Dialogs that wait."""
        return len(self.held)

    def take(self, submission: Submission) -> bool:
        """Set an entry aside, behind those of its dialog, and refuse its submitter; False when there is no room."""
        dialog = submission.entry.dialog
        if dialog not in self.held:
            if len(self.held) >= DIALOGS_MAX:
                return False
            self.held[dialog] = _Held()
            _log.error("a dialog is set aside: the store does not answer for it", extra=_ids(dialog))
        self.held[dialog].entries.append(submission)
        submission.finish(UNAVAILABLE)
        self._wake.set()
        return True

    async def wait_settled(self) -> None:
        """Return once all that is set aside now has been answered and routed."""
        for held in list(self.held.values()):
            await held.answered.wait()

    async def run(self) -> None:
        """Try each dialog again, one after the other, with a pause before each round."""
        while True:
            await self._wake.wait()
            while self.held:
                await self._sleep(self._pause_s)
                for dialog in list(self.held):
                    await self._try(dialog)
            self._wake.clear()

    async def _try(self, dialog: bytes) -> None:
        held = self.held[dialog]
        while held.entries:
            try:
                (verdict,) = await self._flusher.flush([held.entries[0]], wait=True)
            except IncarnationEndedError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, the fate of the entry is still unknown
                if not isinstance(error, WriteRefusedError) or held.entries[0].unknown:
                    _log.warning("a dialog is still set aside: %s", error, extra=_ids(dialog))
                    return
            else:
                if verdict.code is VerdictCode.BUSY:
                    return
            held.entries.popleft()
        del self.held[dialog]
        held.answered.set()
        _log.warning("a dialog is no longer set aside", extra=_ids(dialog))


def _ids(dialog: bytes) -> dict[str, str]:
    return {"dialog": to_text(dialog)}
