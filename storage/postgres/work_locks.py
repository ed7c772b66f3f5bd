"""Work that one node at a time does for the whole deployment: which node does what.

Every node offers to do each sort of work. It does what it has the lock of, a session lock on a connection of its own,
which no pooler may share out. Another node gets the lock when that connection ends. PostgreSQL ends it, too, when
nothing has been heard on it for `silent_s`: so a node that is paused, or whose machine has failed, keeps no work.

For a moment two nodes may do the same work: one does not know yet that its connection has ended. That harms nothing.
Each step of this work is judged and written by one statement, repeated without a change, and never relies on what an
earlier one read.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Any

import asyncpg

from storage.postgres.functions import WORK_LOCKS
from storage.postgres.pool import CONNECT_TIMEOUT_S, translate_errors
from storage.unavailable import StorageUnavailableError

_log = logging.getLogger(__name__)

LOOK_EVERY_S = 2.0
_SILENT_S = 30.0
_ANSWER_S = 10.0
_APPLICATION = "tchat work of incarnation "

Job = Callable[[], Coroutine[Any, Any, None]]
"""Work from its beginning, until cancelled."""

_TAKE = f"SELECT w FROM unnest($1::int[]) AS w WHERE pg_try_advisory_lock({WORK_LOCKS}, w)"
_STILL_HERE = "SELECT 1"
HOLDERS = f"""
SELECT substr(a.application_name, {len(_APPLICATION) + 1})::bigint AS incarnation,
       array_agg(l.objid::int ORDER BY l.objid) AS works
FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.classid = {WORK_LOCKS} AND l.objsubid = 2 AND l.granted
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND a.application_name ~ '^{_APPLICATION}[0-9]+$'
GROUP BY 1
"""
"""The incarnations that have work, and which, as far as this role may see them."""


class Work(enum.IntEnum):
    """The sorts of work; the number is the second half of the lock's key."""

    MOVER = 1
    ERASER = 2
    TRIMMER = 3
    PURGE = 4
    DIALOG_PURGE = 5
    AUTHOR_PURGE = 6
    LOG_ANNOUNCER = 7
    WEBHOOKS = 8


def lock_settings(incarnation: int, *, silent_s: float) -> dict[str, str]:
    """What a connection that holds such locks starts with: whose it is, and when it has ended."""
    return {
        "application_name": f"{_APPLICATION}{incarnation}",
        "idle_session_timeout": f"{silent_s * 1000:.0f}ms",
        "tcp_keepalives_idle": "5",  # a machine that fails closes no connection: its locks are free within 20 s
        "tcp_keepalives_interval": "5",
        "tcp_keepalives_count": "3",
    }


class WorkLocks:
    """The locks of one node. `held` is the work that it does now."""

    def __init__(
        self,
        url: str,
        *,
        incarnation: int,
        silent_s: float = _SILENT_S,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.held: frozenset[int] = frozenset()
        self._url = url
        self._settings = lock_settings(incarnation, silent_s=silent_s)
        self._sleep = sleep
        self._connection: asyncpg.Connection[Any] | None = None

    async def run(self, jobs: Mapping[Work, Job]) -> None:
        """Do each job, from its beginning, while this node has its lock; until cancelled. Raises what a job raises."""
        doing: dict[int, asyncio.Task[None]] = {}
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    await self.look(jobs.keys())
                    for work in doing.keys() - self.held:
                        doing.pop(work).cancel()
                    for work in self.held - doing.keys():
                        doing[work] = group.create_task(jobs[Work(work)]())
                    await self._sleep(LOOK_EVERY_S)
        finally:
            self.release()

    async def look(self, works: Iterable[Work]) -> None:
        """Take what nobody else has of `works`, and find out whether what this node holds is still its own."""
        try:
            async with translate_errors(), asyncio.timeout(_ANSWER_S):
                connection = self._connection or await self._connect()
                if wanted := sorted(set(works) - self.held):
                    taken = await connection.fetch(_TAKE, wanted)
                    self.held |= {work for (work,) in taken}
                else:
                    await connection.execute(_STILL_HERE)
        except StorageUnavailableError as error:
            if self.held:
                _log.warning("others may do the work of this node now: %s", error)
            self.release()

    def release(self) -> None:
        """Let other nodes have all of it."""
        if self._connection is not None:
            self._connection.terminate()
        self._connection, self.held = None, frozenset()

    async def _connect(self) -> asyncpg.Connection[Any]:
        self._connection = await asyncpg.connect(self._url, timeout=CONNECT_TIMEOUT_S, server_settings=self._settings)
        return self._connection
