"""Fixtures of Redis and Cassandra, one server per run, started only if a test asks; and of Matrix' OlmMachine.

What a machine lacks is skipped, with a line at the end of the run that says how to get it; in CI it is a failure.
"""

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import NoReturn, TypeVar

import pytest
import redis
from cassandra import OperationTimedOut
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable, Session
from cassandra.policies import ConstantReconnectionPolicy, RoundRobinPolicy

from tests.engines.cassandra_jars import fetch_jars
from tests.engines.cassandra_server import START_TIMEOUT_S, CassandraServer
from tests.engines.olm_machine import OlmMachine
from tests.engines.redis_server import RedisServer
from tests.engines.server_process import HOST, EngineError, EngineMissingError

_keyspaces = itertools.count(1)
_Engine = TypeVar("_Engine")


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """The run's own Redis, which no test stops or pauses."""
    with contextlib.ExitStack() as stack:
        yield _enter(stack, lambda: RedisServer(tmp_path_factory.mktemp("redis")))


@pytest.fixture
def redis_url(shared_redis: RedisServer) -> str:
    """The URL of an empty Redis of this test alone; what an earlier test left connected is cut off."""
    with redis.Redis(port=shared_redis.port) as connection:
        for kind in ("normal", "pubsub"):
            connection.client_kill_filter(_type=kind, skipme=True)
        connection.flushall()
    return shared_redis.url


@pytest.fixture
def start_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], RedisServer]]:
    """A function that starts one more Redis, to be killed, paused and started again; all end with the test."""
    with contextlib.ExitStack() as stack:

        def start() -> RedisServer:
            return _enter(stack, lambda: RedisServer(tmp_path_factory.mktemp("redis")))

        yield start


@pytest.fixture
def own_redis(start_redis: Callable[[], RedisServer]) -> RedisServer:
    """A Redis of this test alone, which it may break."""
    return start_redis()


@pytest.fixture
def redis_operator(own_redis: RedisServer) -> Iterator[redis.Redis]:
    """A plain client of `own_redis`, with which a test breaks it."""
    with redis.Redis(port=own_redis.port) as connection:
        yield connection


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark of tests that use Cassandra: `-m "not cassandra"` leaves them out."""
    config.addinivalue_line("markers", "cassandra: uses Cassandra; set by hand only where a fixture asks for it late")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that use Cassandra through a fixture: they run in one process, which starts it."""
    for item in items:
        if isinstance(item, pytest.Function) and "cassandra" in item.fixturenames:
            item.add_marker("cassandra")
        if item.get_closest_marker("cassandra") is not None:
            item.add_marker(pytest.mark.xdist_group("cassandra"))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Fetch Cassandra before the first test, whose time is limited, if it is not in the cache."""
    if session.config.option.collectonly:
        return
    if any(item.get_closest_marker("cassandra") for item in session.items):
        with contextlib.suppress(EngineMissingError):
            fetch_jars()


@pytest.fixture(scope="session")
def cassandra(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CassandraServer]:
    """The run's own Cassandra, ready."""
    with contextlib.ExitStack() as stack:
        yield _enter(stack, lambda: CassandraServer(tmp_path_factory.mktemp("cassandra")))


@pytest.fixture(scope="session")
def cql_session(cassandra: CassandraServer) -> Iterator[Session]:
    """A plain connection of the run, for what the product itself does not do."""
    profile = ExecutionProfile(load_balancing_policy=RoundRobinPolicy())
    cluster = Cluster(
        [HOST],
        port=cassandra.port,
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        reconnection_policy=ConstantReconnectionPolicy(0.1, max_attempts=None),
    )
    yield cluster.connect()
    cluster.shutdown()


@pytest.fixture
def cql_keyspace(cql_session: Session) -> str:
    """The name of an empty keyspace of this test alone. Its tables take a second: rows of many tests may share one."""
    name = f"test_{next(_keyspaces)}"
    cql_session.execute(
        f"CREATE KEYSPACE {name} WITH replication = {{'class': 'NetworkTopologyStrategy', 'replication_factor': 1}}"
    )
    return name  # dropping it would take another second, and the server ends with the run


@pytest.fixture
def breakable_cassandra(cassandra: CassandraServer, cql_session: Session) -> Iterator[CassandraServer]:
    """The run's own Cassandra, which this test may pause, kill and start: after the test it runs again."""
    yield cassandra
    if cassandra.runs:
        cassandra.resume()
    else:
        cassandra.start()
    await_answers(cql_session)


@pytest.fixture
def olm_machine() -> Iterator[OlmMachine]:
    """A device that Matrix' own library runs."""
    with contextlib.ExitStack() as stack:
        yield _enter(stack, OlmMachine)


def await_answers(session: Session) -> None:
    """Wait until the driver has connected again to a Cassandra that was started or resumed."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        with contextlib.suppress(NoHostAvailable, OperationTimedOut):
            session.execute("SELECT key FROM system.local")
            return
        time.sleep(0.05)
    raise EngineError("The driver did not connect again to Cassandra.")


def _enter(stack: contextlib.ExitStack, start: Callable[[], AbstractContextManager[_Engine]]) -> _Engine:
    """An engine that ends with `stack`; without what it needs, the test is skipped, or fails."""
    try:
        return stack.enter_context(start())
    except EngineMissingError as error:
        _missing(error)


def _missing(error: EngineMissingError) -> NoReturn:
    """Skip what needs the engine, with a line at the end of the run; in CI, fail."""
    if os.environ.get("CI"):
        pytest.fail(f"{error} In CI every engine must be there.")
    pytest.skip(str(error))
