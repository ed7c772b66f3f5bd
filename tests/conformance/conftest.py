"""The engines under test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from server.identity.rates import MemoryRateLimiter
from storage.archive import Archive
from storage.backlog import ArchiveBacklog
from storage.backups import Backups
from storage.bus import Bus, PresenceStore
from storage.cql.archive import CqlArchive
from storage.deleted_dialogs import DeletedDialogs
from storage.device_keys import DeviceKeyStore
from storage.device_messages import DeviceMessageStore
from storage.local.archive import LocalArchive
from storage.local.network import LocalBus, LocalPresence
from storage.local.rates import LocalBuckets
from storage.nodes import Nodes
from storage.postgres.archived_timelines import ArchivedTimelines
from storage.postgres.backlog import PostgresBacklog
from storage.postgres.backups import PostgresBackups
from storage.postgres.deleted_dialogs import PostgresDeletedDialogs
from storage.postgres.device_keys import PostgresDeviceKeys
from storage.postgres.device_messages import PostgresDeviceMessages
from storage.postgres.journal import PostgresJournal
from storage.postgres.nodes import PostgresNodes
from storage.postgres.pool import open_pool
from storage.postgres.purged_authors import PostgresPurgedAuthors
from storage.postgres.reports import PostgresReports
from storage.postgres.sealed_rosters import PostgresSealedRosters
from storage.postgres.shares import PostgresShares
from storage.postgres.timelines import PostgresTimelines
from storage.postgres.trimming import PostgresTrimming
from storage.purged_authors import PurgedAuthors
from storage.rates import BucketStore, RateLimiter
from storage.redis.bus import RedisBus
from storage.redis.presence import RedisPresence
from storage.redis.rates import RedisBuckets, RedisRateLimiter
from storage.reports import Reports
from storage.sealed_rosters import SealedRosters
from storage.shares import Shares
from storage.timelines import Journal, Timelines
from storage.trimming import Trimming
from tests.engines.redis_server import RedisServer
from tests.support.archiving import hiding
from tests.support.clock import ManualClock
from tests.support.identity_people import IdentityStores
from tests.support.redis_instances import connected
from tests.support.world import World

ENGINES: dict[type[Any], type[Any]] = {
    PostgresJournal: Journal,
    PostgresTimelines: Timelines,
    ArchivedTimelines: Timelines,
    PostgresTrimming: Trimming,
    PostgresNodes: Nodes,
    PostgresDeletedDialogs: DeletedDialogs,
    PostgresPurgedAuthors: PurgedAuthors,
    PostgresDeviceKeys: DeviceKeyStore,
    PostgresShares: Shares,
    PostgresSealedRosters: SealedRosters,
    PostgresBackups: Backups,
    PostgresDeviceMessages: DeviceMessageStore,
    PostgresReports: Reports,
    LocalArchive: Archive,
    CqlArchive: Archive,
    PostgresBacklog: ArchiveBacklog,
    LocalBus: Bus,
    RedisBus: Bus,
    LocalPresence: PresenceStore,
    RedisPresence: PresenceStore,
    MemoryRateLimiter: RateLimiter,
    RedisRateLimiter: RateLimiter,
    LocalBuckets: BucketStore,
    RedisBuckets: BucketStore,
}
"""The contract of each engine; the fixtures of this file hand out every one of them."""


def engines_of(contract: type[Any]) -> list[type[Any]]:
    """The engines of a contract."""
    return [engine for engine, of in ENGINES.items() if of is contract]


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    """A fresh world on PostgreSQL, the one engine there is so far."""
    opened = await World.open(database_url)
    yield opened
    await opened.close()


@pytest.fixture
def device_keys(world: World) -> DeviceKeyStore:
    """The keys of the devices of `world`."""
    return PostgresDeviceKeys(world.pool)


@pytest.fixture
def rosters(world: World) -> SealedRosters:
    """The rosters of the sealed dialogs of `world`."""
    return PostgresSealedRosters(world.pool)


@asynccontextmanager
async def opened_archive(engine: type[Archive], request: pytest.FixtureRequest) -> AsyncIterator[Archive]:
    """An archive. On CQL, others have written to it: a test has dialogs of its own."""
    if engine is LocalArchive:
        yield LocalArchive()
        return
    archive = CqlArchive(request.getfixturevalue("cql_server"), read_timeout_s=10.0, write_timeout_s=10.0)
    try:
        yield archive
    finally:
        await archive.close()


@pytest.fixture(params=[LocalArchive, pytest.param(CqlArchive, marks=pytest.mark.cassandra)])
async def archive(request: pytest.FixtureRequest) -> AsyncIterator[Archive]:
    """An archive of each engine."""
    async with opened_archive(request.param, request) as opened:
        yield opened


@pytest.fixture
async def archived_world(world: World, database_url: str) -> AsyncIterator[World]:
    """A world that reads its rows from an archive only."""
    async with hiding(world, database_url, LocalArchive(), share=1.0):
        yield world


@pytest.fixture(
    params=[
        pytest.param((None, 0.0), id="in the journal"),
        pytest.param((LocalArchive, 0.5), id="in both"),
        pytest.param((LocalArchive, 1.0), id="in the archive"),
        pytest.param((CqlArchive, 1.0), id="in CQL", marks=pytest.mark.cassandra),
    ]
)
async def each_world(request: pytest.FixtureRequest, database_url: str) -> AsyncIterator[World]:
    """A world that reads its rows from the journal, or the first share of each dialog from an archive."""
    engine, share = request.param
    opened = await World.open(database_url)
    if engine is None:
        yield opened
    else:
        async with opened_archive(engine, request) as archive, hiding(opened, database_url, archive, share=share):
            yield opened
    await opened.close()


@pytest.fixture(params=[(LocalBus, 0), (RedisBus, 1), (RedisBus, 3)])
async def bus(request: pytest.FixtureRequest, start_redis: Callable[[], RedisServer]) -> AsyncIterator[Bus]:
    """A bus of each engine; on Redis over one instance, and over several."""
    engine, instances = request.param
    if engine is LocalBus:
        yield LocalBus()
        return
    async with connected(*(start_redis().url for _ in range(instances))) as opened:
        yield RedisBus(opened, "test")


@pytest.fixture(params=[(LocalPresence, 0), (RedisPresence, 1), (RedisPresence, 3)])
async def presence_store(
    request: pytest.FixtureRequest, start_redis: Callable[[], RedisServer]
) -> AsyncIterator[PresenceStore]:
    """An empty store of each engine; on Redis over one instance, and over several."""
    engine, instances = request.param
    if engine is LocalPresence:
        yield LocalPresence()
        return
    async with connected(*(start_redis().url for _ in range(instances))) as opened:
        store = RedisPresence(opened, "test")
        await store.read_token()  # the first answer of an empty Redis has no token
        yield store


LetTimePass = Callable[[float], Awaitable[None]]
"""Lets so many seconds pass for an engine: on Redis, by making what is stored so much older."""


@pytest.fixture(params=[MemoryRateLimiter, RedisRateLimiter])
async def timed_limiter(
    request: pytest.FixtureRequest, clock: ManualClock, start_redis: Callable[[], RedisServer]
) -> AsyncIterator[tuple[RateLimiter, LetTimePass]]:
    """An empty counter of rates of each engine, and its time."""
    if request.param is MemoryRateLimiter:

        async def advance(seconds: float) -> None:
            clock.advance(seconds)

        yield MemoryRateLimiter(clock), advance
        return
    async with connected(start_redis().url) as [instance]:

        async def make_older(seconds: float) -> None:
            [keys] = await instance.ask([("KEYS", "*")], count=1)
            for key in keys:
                full_at, lasts_ms = await instance.ask([("GET", key), ("PTTL", key)], count=2)
                lasts_ms -= round(seconds * 1000)
                command = ("SET", key, int(full_at) - round(seconds * 1e6), "PX", lasts_ms)
                await instance.ask([command if lasts_ms > 0 else ("DEL", key)], count=1)

        yield RedisRateLimiter(instance, "test", b"secret"), make_older


@pytest.fixture
def limiter(timed_limiter: tuple[RateLimiter, LetTimePass]) -> RateLimiter:
    """A counter of rates of each engine."""
    return timed_limiter[0]


@pytest.fixture
def let_time_pass(timed_limiter: tuple[RateLimiter, LetTimePass]) -> LetTimePass:
    """The time of `limiter`."""
    return timed_limiter[1]


@pytest.fixture(params=[(LocalBuckets, 0), (RedisBuckets, 1), (RedisBuckets, 3)])
async def buckets(
    request: pytest.FixtureRequest, clock: ManualClock, start_redis: Callable[[], RedisServer]
) -> AsyncIterator[BucketStore]:
    """An empty store of each engine; on Redis over one instance, and over several."""
    engine, instances = request.param
    if engine is LocalBuckets:
        yield LocalBuckets(clock.monotonic)
        return
    async with connected(*(start_redis().url for _ in range(instances))) as opened:
        yield RedisBuckets(opened, "test")


@pytest.fixture
async def backlogs(database_url: str) -> AsyncIterator[list[ArchiveBacklog]]:
    """Three on one database; each page has at most three rows."""
    made: list[ArchiveBacklog] = [
        PostgresBacklog(database_url, statement_timeout_s=30.0, page_rows_max=3) for _ in range(3)
    ]
    yield made
    for backlog in made:
        await backlog.release()


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool[Any]]:
    """Connections to a fresh database."""
    opened = await open_pool(database_url, size=12, statement_timeout_s=30.0)
    yield opened
    await opened.close()


@pytest.fixture
def stores(pool: asyncpg.Pool[Any]) -> IdentityStores:
    """The stores of identity."""
    return IdentityStores(pool)
