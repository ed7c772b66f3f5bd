"""An entry on its way to the store, with who waits for its verdict, and the bound on all that wait."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import msgspec

from server.config.settings import PipelineSettings
from storage.rows import ChangeEntry, Entry, Verdict, VerdictCode

_log = logging.getLogger(__name__)

OnVerdict = Callable[[Verdict], None]
"""Takes the verdict on an entry, once."""

UNAVAILABLE = Verdict(VerdictCode.UNAVAILABLE)
INTERNAL = Verdict(VerdictCode.INTERNAL)

_OVERHEAD_BYTES = 512
"""About what the objects of a waiting entry take in memory, beside its body."""


class Submission(msgspec.Struct, eq=False):
    """An entry that was submitted. `unknown`: a call whose fate is unknown may have stored it."""

    entry: Entry | ChangeEntry
    done: OnVerdict
    size: int
    unknown: bool = False

    def finish(self, verdict: Verdict) -> None:
        """Give the submitter the verdict; the first one counts."""
        done, self.done = self.done, _ignore
        try:
            done(verdict)
        except Exception:  # noqa: BLE001 - a submitter's fault must not touch the others of its batch
            _log.exception("the submitter of an entry failed on its verdict")


def _ignore(_verdict: Verdict) -> None:
    """The submitter has its answer."""


def size_of(entry: Entry | ChangeEntry) -> int:
    """About how many bytes of memory an entry takes while it waits."""
    body = entry.body if isinstance(entry, Entry) else msgspec.msgpack.encode(entry.body)
    return len(body) + _OVERHEAD_BYTES


class Backlog:
    """What waits for the lanes of a node: its rows and its bytes, each with one bound for all lanes."""

    def __init__(self, settings: PipelineSettings) -> None:
        self._settings = settings
        self.rows = 0
        self.size = 0
        self.refused = 0
        """Since the start, for want of room."""

    def try_add(self, submission: Submission) -> bool:
        """Count one that waits from now on; False, and it is not counted, if there is no room for it."""
        if self.rows >= self._settings.queue_rows_max or self.size + submission.size > self._settings.queue_bytes_max:
            self.refused += 1
            return False
        self.add(submission)
        return True

    def add(self, submission: Submission) -> None:
        """Count one that waits again, room or not."""
        self.rows += 1
        self.size += submission.size

    def remove(self, submissions: Sequence[Submission]) -> None:
        """Count those that wait no longer."""
        self.rows -= len(submissions)
        for submission in submissions:
            self.size -= submission.size
