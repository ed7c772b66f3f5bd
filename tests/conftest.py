"""Fixtures for everybody: one real PostgreSQL per run, and a fresh, migrated database per test that asks for one."""

import asyncio
import gc
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from storage.cql.driver import CqlServer
from storage.cql.migrate import migrate as migrate_keyspace
from storage.embedded.cluster import EmbeddedPostgres
from storage.postgres.migrate import migrate
from tests.engines.cassandra_server import CassandraServer
from tests.engines.server_process import HOST, Watcher
from tests.support.clock import ManualClock
from tests.support.databases import Databases
from tests.support.world import World

pytest_plugins = ["tests.engines.fixtures", "tests.support.kept_apps", "tests.support.money_fixtures"]

_TEMPLATE = "migrated"
_MEMORY = Path("/dev/shm")
_NEW_OBJECTS = 50_000
_ROOM_BYTES = 3 * 1024**3  # several times what a run was seen to take


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Have temporary files in memory, where there is room and no `--basetemp` is given.

    A database is four hundred files, and a cluster a thousand: on a disk they take longer than what tests do with them.
    """
    room = min(shutil.disk_usage(_MEMORY).free, psutil.virtual_memory().available) if _MEMORY.is_dir() else 0
    if config.option.basetemp is None and room >= _ROOM_BYTES:
        folder = Path(tempfile.mkdtemp(prefix="tchat-test-", dir=_MEMORY))
        config.option.basetemp = str(folder)
        config.add_cleanup(Watcher.removing(folder).dismiss)
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


def pytest_xdist_auto_num_workers() -> int:
    """One process more than cores: many tests wait for processes, networks and clocks."""
    return (psutil.cpu_count() or 1) + 1


def pytest_collection_finish() -> None:
    """Leave what collecting made, which stays to the end, out of every later search for garbage; and search rarely."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests run on asyncio, as the server does; mark them with `pytest.mark.anyio`."""
    return "asyncio"


@pytest.fixture
def clock() -> ManualClock:
    """A clock that the test moves."""
    return ManualClock()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """The run's own PostgreSQL, with the settings of the real one but for what it may take."""
    folder: Path = tmp_path_factory.mktemp("postgres")
    with EmbeddedPostgres(folder, {"max_connections": "200", "max_wal_size": "256MB"}) as running:
        watcher = Watcher.killing(running.pid, signal.SIGQUIT)
        yield running
    watcher.dismiss()


@pytest.fixture(scope="session")
def databases(postgres: EmbeddedPostgres) -> Iterator[Databases]:
    """Makes databases in the run's own PostgreSQL."""
    with Databases(postgres) as opened:
        yield opened


@pytest.fixture(scope="session")
def migrated_template(databases: Databases) -> str:
    """The name of a database with the current schema and no rows, to copy from."""
    asyncio.run(migrate(databases.create(_TEMPLATE)))
    return _TEMPLATE


@pytest.fixture(scope="session")
def cql_server(cassandra: CassandraServer) -> CqlServer:
    """A migrated keyspace of the run: the tests that write to it have dialogs of their own."""
    server = CqlServer((HOST,), cassandra.port, "tchat")
    migrate_keyspace(server, lambda _name: None)
    return server


@pytest.fixture
def database_url(databases: Databases, migrated_template: str) -> Iterator[str]:
    """A migrated database of this test alone."""
    with databases.copied(migrated_template) as url:
        yield url


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    """People and dialogs in a fresh database, without a node."""
    opened = await World.open(database_url)
    yield opened
    await opened.close()


@pytest.fixture
def empty_database_url(databases: Databases) -> Iterator[str]:
    """A database without a schema."""
    with databases.copied("template1") as url:
        yield url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """One plain connection to a fresh, migrated database."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()
