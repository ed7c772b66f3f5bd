"""Fixtures of Redis: one server per run, started when the first test asks, and more for tests that break them."""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import NoReturn

import pytest
import redis

from tests.engines.redis_server import RedisServer
from tests.engines.server_process import EngineMissingError


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """The run's own Redis, which no test stops or pauses."""
    with contextlib.ExitStack() as stack:
        try:
            yield stack.enter_context(RedisServer(tmp_path_factory.mktemp("redis")))
        except EngineMissingError as error:
            missing(error)


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
            try:
                return stack.enter_context(RedisServer(tmp_path_factory.mktemp("redis")))
            except EngineMissingError as error:
                missing(error)

        yield start


def missing(error: EngineMissingError) -> NoReturn:
    """Skip what needs the engine, with a line at the end of the run; in CI, fail."""
    if os.environ.get("CI"):
        pytest.fail(f"{error} In CI every engine must be there.")
    pytest.skip(str(error))
