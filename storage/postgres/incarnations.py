"""Incarnations: the lives of nodes. A life that has ended writes no more.

One node at a time serves a database, or several share it (`cluster.redis_urls`): a node takes the right to serve alone,
or one that it shares, and neither while others have the other.

A node that is killed may leave a statement behind that commits later, after the next node has handed out positions. So
who serves alone marks every incarnation before it as ended, and waits for what these left running, before its own
begins. Everything that writes holds its incarnation's lock (`hold_incarnation.sql`); the node that serves holds the
lock of the database, on a connection of its own, which no pooler may share out. Nodes that share it end each other by
their leases (`server/cluster/leases.py`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Self, TypeAlias

import asyncpg

from storage.postgres.epoch import IS_SETTLED, settle_epoch
from storage.postgres.functions import INCARNATION_LOCKS
from storage.postgres.pool import CONNECT_TIMEOUT_S, translate_errors
from storage.unavailable import IncarnationEndedError, StorageUnavailableError

_log = logging.getLogger(__name__)

_LOOK_EVERY_S = 1.0
_REFUSED_AFTER_S = 5.0  # PostgreSQL needs a moment to notice that a killed node's connection is gone
_ANSWER_S_MAX = 3.0
_SILENT_S_MAX = 30.0
_WAIT_S = 5.0
_WAITS_MAX = 12

_SERVE = f"SELECT pg_try_advisory_lock({INCARNATION_LOCKS}, 0)"
_SHARE = f"SELECT pg_try_advisory_lock_shared({INCARNATION_LOCKS}, 0)"
# Who is paused while it settles must not keep the others waiting: it says nothing, and PostgreSQL ends its session.
_SETTLE_ALONE = f"SET idle_session_timeout = '{{ms}}ms'; SELECT pg_advisory_lock({INCARNATION_LOCKS}, -1)"
_SETTLED = f"SELECT pg_advisory_unlock({INCARNATION_LOCKS}, -1); RESET idle_session_timeout"
_WHO_SERVES = "SELECT node, started_at_ms FROM incarnations WHERE ended_at_ms IS NULL ORDER BY incarnation DESC LIMIT 1"
_LIVES = "SELECT EXISTS (SELECT FROM incarnations WHERE incarnation = $1 AND ended_at_ms IS NULL)"
_END_ALL = "UPDATE incarnations SET ended_at_ms = unix_ms() WHERE fenced_at_ms IS NULL AND ended_at_ms IS NULL"
_UNFENCED = "SELECT incarnation, node FROM incarnations WHERE fenced_at_ms IS NULL ORDER BY incarnation"
_WAIT_FOR = f"SELECT pg_advisory_xact_lock({INCARNATION_LOCKS}, $1::int)"
_NOTE_FENCED = """
UPDATE incarnations SET fenced_at_ms = unix_ms(), fenced_xid = pg_current_xact_id() WHERE incarnation = $1
"""
_LEFT_RUNNING = f"""
SELECT coalesce(string_agg('pid ' || l.pid || coalesce(' for ' || extract(
           epoch FROM clock_timestamp() - a.xact_start)::int || ' s', ''), ', '), 'unknown')
FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.classid = {INCARNATION_LOCKS} AND l.objid = $1::int AND l.objsubid = 2 AND l.granted
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
# A machine that fails closes no connection: PostgreSQL finds out within 20 s.
_SETTINGS = """
SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3
"""

Connection: TypeAlias = "asyncpg.Connection[Any]"


class DatabaseInUseError(Exception):
    """This node may not serve the database now; the message says why and what to do."""


class NodeLock:
    """The right to serve one database: `take` it, `replace` who served before, `keep` it, `release` it at the end."""

    def __init__(self, url: str, connection: Connection, take: str, *, failover_is_synchronous: bool) -> None:
        self._url = url
        self._connection = connection
        self._take = take
        self._failover_is_synchronous = failover_is_synchronous
        self._doubted = False

    @classmethod
    async def take(
        cls,
        url: str,
        *,
        shared: bool = False,
        failover_is_synchronous: bool = False,
        patience_s: float = _REFUSED_AFTER_S,
    ) -> Self:
        """Take the right, alone or `shared`. Raises DatabaseInUseError if another has it, StorageUnavailableError.

        `failover_is_synchronous`: a standby that was promoted lacks nothing, and begins no epoch.
        """
        take = _SHARE if shared else _SERVE
        connection = await _connect(url)
        give_up_at = time.monotonic() + patience_s
        while not await connection.fetchval(take):
            if time.monotonic() >= give_up_at:
                said = await _who_serves(connection)
                await connection.close()
                raise DatabaseInUseError(said)
            await asyncio.sleep(0.1)
        return cls(url, connection, take, failover_is_synchronous=failover_is_synchronous)

    async def replace(self, *, wait_s: float = _WAIT_S, waits_max: int = _WAITS_MAX) -> None:
        """End every incarnation before, and return when none of their statements runs any more.

        Nothing is terminated: a commit that waits for a standby would be cut short and visible, but not replicated.
        Raises DatabaseInUseError if one still runs after `waits_max` waits, each logged.
        """
        await self._connection.execute(_END_ALL)
        await self._connection.execute(f"SET lock_timeout = '{wait_s * 1000:.0f}ms'")
        for incarnation, node in await self._connection.fetch(_UNFENCED):
            await self._fence(incarnation, node, waits_max)

    async def settle_epoch(self, progress: Callable[[str], None]) -> int:
        """The epoch, a new one if this is another history of transactions than the last node's (`epoch.py`).

        Nodes that start together settle it one after the other; half a minute is waited for one that is paused. What
        fails loses the connection, and `keep` repeats it.
        """
        try:
            await self._connection.execute(_SETTLE_ALONE.format(ms=round(_SILENT_S_MAX * 1000)))
            epoch = await settle_epoch(self._connection, progress, synchronous=self._failover_is_synchronous)
            await self._connection.execute(_SETTLED)
        except BaseException:
            self._connection.terminate()
            raise
        return epoch

    async def keep(self, incarnation: int, settled: Callable[[int], None]) -> None:
        """Ask each second whether the right is still ours, and take it again if not, until cancelled.

        `settled` then gets the epoch: PostgreSQL may have come back with another history. Raises IncarnationEndedError
        if another node has served meanwhile.
        """
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            try:
                async with translate_errors():
                    if not await self._is_kept() and await self._take_again(incarnation):
                        settled(await self.settle_epoch(_log.warning))
                        self._doubted = False
            except IncarnationEndedError:
                raise
            except StorageUnavailableError as error:
                _log.warning("the right to serve the database cannot be taken again now: %s", error)

    def doubt(self) -> None:
        """Have `keep` take the right again on a new connection: elsewhere the database has another history."""
        self._doubted = True

    async def release(self) -> None:
        """Let another node serve."""
        self._connection.terminate()

    async def _is_kept(self) -> bool:
        """Whether its connection answers, from a database with the history that it had.

        Taking the lock once more costs nothing while we have it; on a connection that was replaced below us it is taken
        again, and whoever had it meanwhile has ended our incarnation.
        """
        if self._doubted or self._connection.is_closed():
            self._connection.terminate()
            return False
        try:
            async with asyncio.timeout(_ANSWER_S_MAX):
                [(taken, is_settled)] = await self._connection.fetch(f"{self._take}, {IS_SETTLED}")
        except BaseException:
            self._connection.terminate()
            raise
        if not (taken and is_settled):
            self._connection.terminate()
        return not self._connection.is_closed()

    async def _take_again(self, incarnation: int) -> bool:
        connection = await _connect(self._url)
        try:
            async with asyncio.timeout(_ANSWER_S_MAX):
                taken = await connection.fetchval(self._take)
                lives = await connection.fetchval(_LIVES, incarnation)
        except BaseException:
            connection.terminate()
            raise
        if not lives:
            connection.terminate()
            raise IncarnationEndedError
        if taken:
            self._connection = connection
            _log.warning("the connection that keeps other nodes out had broken; the node goes on")
        else:
            await connection.close()
        return bool(taken)

    async def _fence(self, incarnation: int, node: str, waits_max: int) -> None:
        for _ in range(waits_max):
            try:
                await self._connection.execute(_WAIT_FOR, incarnation)
            except asyncpg.LockNotAvailableError:
                running = await self._connection.fetchval(_LEFT_RUNNING, incarnation)
                _log.warning("waiting for what node %s left running in PostgreSQL: %s", node, running)
            else:
                await self._connection.execute(_NOTE_FENCED, incarnation)
                return
        raise DatabaseInUseError(
            f"A statement of node {node}, which has ended, still runs in PostgreSQL ({running}): look in "
            "pg_stat_activity what it waits for (a standby that is gone, say), and start again when it has finished."
        )


async def _connect(url: str) -> Connection:
    async with translate_errors():
        connection: Connection = await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_S)
        try:
            async with asyncio.timeout(_ANSWER_S_MAX):
                await connection.execute(_SETTINGS)
        except BaseException:
            connection.terminate()
            raise
    return connection


async def _who_serves(connection: Connection) -> str:
    try:
        row = await connection.fetchrow(_WHO_SERVES)
    except (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError):  # the other one migrates
        row = None
    if row is None:
        return "Another node is about to serve this database: start this one when that one has been stopped."
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(row["started_at_ms"] / 1000))
    return (
        f"Node {row['node']} serves this database since {since}, and one node at a time can: stop it first, "
        "give this one another database (storage.postgres_url), or set cluster.redis_urls in both."
    )
