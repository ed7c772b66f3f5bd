"""A node on a real database, from the right to serve it to its end.

Order of start: the right to serve the database, its schema, the end of the incarnations before (of a node that serves
alone), our own, parts, ports. The order of the end is that of `server.node.drain`, then the database.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator
from typing import Any, Protocol

from server.clock import Clock
from server.config.postgres_connections import OTHER_WRITERS
from server.config.settings import Config
from server.delivery.registry import Registry
from server.gateway.connection_counts import ConnectionCounts
from server.node.composition import Node
from server.node.identity_port import Identity
from server.node.key_stores import KeyStores
from server.node.redis_start import running_redis
from server.startup_error import StartupError
from server.writing.author_purge import AuthorPurge
from server.writing.dialog_purge import DialogPurge
from server.writing.mover import Mover
from server.writing.pipeline import Pipeline
from server.writing.put_back import PutBack
from server.writing.trimmer import Trimmer
from storage.archive import Archive
from storage.nodes import Nodes
from storage.postgres.archived_timelines import ArchivedTimelines
from storage.postgres.backlog import PostgresBacklog
from storage.postgres.backups import PostgresBackups
from storage.postgres.deleted_dialogs import PostgresDeletedDialogs
from storage.postgres.device_keys import PostgresDeviceKeys
from storage.postgres.device_messages import PostgresDeviceMessages
from storage.postgres.incarnations import NodeLock
from storage.postgres.journal import PostgresJournal
from storage.postgres.migrate import migrate
from storage.postgres.nodes import PostgresNodes
from storage.postgres.pool import Pool, open_pool
from storage.postgres.purged_authors import PostgresPurgedAuthors
from storage.postgres.reports import PostgresReports
from storage.postgres.sealed_rosters import PostgresSealedRosters
from storage.postgres.shares import PostgresShares
from storage.postgres.timelines import PostgresTimelines
from storage.postgres.trimming import PostgresTrimming
from storage.postgres.work_locks import WorkLocks
from storage.postgres.write_connections import WriteConnections
from storage.rates import RateLimiter
from storage.unavailable import StorageUnavailableError

_log = logging.getLogger(__name__)

_ARCHIVED = (
    "The timelines of this database are archived, and old messages may be in the archive only: set storage.cql_hosts "
    "to the servers of the archive."
)


class MakeIdentity(Protocol):
    """Makes the identity of a node, ready for the first sign-in."""

    async def __call__(
        self, pool: Pool, clock: Clock, *, appender: Pipeline, sessions: Registry, limiter: RateLimiter
    ) -> Identity:
        """Called once, before the ports are open."""


@contextlib.asynccontextmanager
async def opened(
    config: Config,
    url: str,
    make_identity: MakeIdentity,
    clock: Clock,
    archive: Archive | None = None,
    *,
    name: str | None = None,
    counts: ConnectionCounts | None = None,
) -> AsyncIterator[tuple[Node, asyncio.Task[None]]]:
    """A node that listens, and the task in which it works; drained and closed on leaving.

    With an archive, it moves the journal there, and deletes what is old and needed there only. Raises StartupError
    without one, if the database has been served with one. A worker has a `name` of its own, and shares its public port
    and the `counts` of its connections with the others.
    """
    async with contextlib.AsyncExitStack() as stack:
        storage, name = config.storage, name or socket.gethostname()
        shared = bool(config.cluster.redis_urls)
        lock = await NodeLock.take(url, shared=shared, failover_is_synchronous=storage.failover_is_synchronous)
        stack.push_async_callback(lock.release)
        await migrate(url, lambda line: _log.info("migrated: %s", line))  # not under a node that serves alone
        if not shared:
            await lock.replace()
        epoch = await lock.settle_epoch(_log.warning)
        pool = await open_pool(url, size=storage.connections_max, statement_timeout_s=storage.statement_timeout_s)
        stack.push_async_callback(_close_pool, pool)
        if archive is None and await pool.fetchval("SELECT EXISTS (SELECT FROM archiving)"):
            raise StartupError(_ARCHIVED)
        read_pool = await open_pool(url, size=storage.read_connections_max, statement_timeout_s=storage.read_timeout_s)
        stack.push_async_callback(_close_pool, read_pool)
        writes = WriteConnections(
            url, size=config.pipeline.lanes + OTHER_WRITERS, statement_timeout_s=storage.statement_timeout_s
        )
        journal = PostgresJournal(pool, writes)
        pages = max(1, storage.read_connections_max // 2)
        timelines = PostgresTimelines(read_pool, pages_at_once=pages)
        incarnation = await journal.begin_incarnation(name)
        nodes = None
        if shared:
            reading_s_max = min(storage.statement_timeout_s, config.cluster.lease_s / 3)  # one must not cost the lease
            readings = WriteConnections(url, size=1, statement_timeout_s=reading_s_max)
            stack.callback(readings.terminate)
            nodes = PostgresNodes(pool, readings)
            stack.push_async_callback(_end_incarnation, nodes, incarnation)
        stack.callback(writes.terminate)
        key = await pool.fetchval("SELECT position_key FROM deployment")
        redis = await stack.enter_async_context(running_redis(config.cluster, key))
        mover = put_back = trimmer = None
        if archive is not None:
            timelines = ArchivedTimelines(read_pool, archive, timeout_s=storage.read_timeout_s, pages_at_once=pages)
            trimming = PostgresTrimming(pool, writes)
            put_back = PutBack(trimming, archive, clock, incarnation=incarnation)
            trimmer = Trimmer(trimming, clock, kept_days=config.sync.position_age_max_days + 1)
            backlog = PostgresBacklog(url, statement_timeout_s=storage.statement_timeout_s, incarnation=incarnation)
            mover = Mover(backlog, archive, clock)
        node = Node(
            config,
            clock,
            journal,
            timelines,
            lock,
            stores=KeyStores(
                device_keys=PostgresDeviceKeys(pool),
                shares=PostgresShares(pool),
                rosters=PostgresSealedRosters(pool),
                device_messages=PostgresDeviceMessages(pool),
                reports=PostgresReports(pool),
                backups=PostgresBackups(pool),
            ),
            work_locks=WorkLocks(url, incarnation=incarnation),
            incarnation=incarnation,
            epoch=epoch,
            position_key=key,
            connections={
                "main": lambda: pool.get_size() - pool.get_idle_size(),
                "reads": lambda: read_pool.get_size() - read_pool.get_idle_size(),
                "writes": lambda: writes.in_use,
            },
            archive=archive,
            mover=mover,
            nodes=nodes,
            put_back=put_back,
            dialog_purge=DialogPurge(PostgresDeletedDialogs(pool), archive, config.eraser, clock),
            author_purge=AuthorPurge(PostgresPurgedAuthors(pool), archive, config.eraser, clock),
            trimmer=trimmer,
            redis=redis,
            name=name,
            counts=counts,
        )
        await node.take_first_horizon()
        identity = await make_identity(
            pool, clock, appender=node.pipeline, sessions=node.registry, limiter=node.limiter
        )
        work = asyncio.ensure_future(node.run(identity))
        stack.push_async_callback(cancel_and_wait, work)
        await node.open(identity)
        stack.push_async_callback(node.drain)
        yield node, work


async def cancel_and_wait(task: asyncio.Task[Any]) -> None:
    """Cancel a task and return when it has ended."""
    task.cancel()
    await asyncio.wait({task})


async def _end_incarnation(nodes: Nodes, incarnation: int) -> None:
    """Say that nothing more comes of this node, so that others need not wait for its lease to run out."""
    try:
        await nodes.end(incarnation, lease=None)
        await nodes.fence(incarnation)
    except StorageUnavailableError as error:
        _log.warning("the others will find out by themselves that this node has ended: %s", error)


async def _close_pool(pool: Pool) -> None:
    try:
        async with asyncio.timeout(5.0):
            await pool.close()
    except TimeoutError:
        pool.terminate()
