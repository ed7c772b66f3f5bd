"""Redis servers of the tests: they come, break and go as tests ask, and outlive nobody."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.engines.redis_server import RedisServer, find_redis
from tests.engines.server_process import EngineError, EngineMissingError

_STARTS_ONE = """
import sys
from pathlib import Path
from tests.engines.redis_server import RedisServer
with RedisServer(Path(sys.argv[1])) as server:
    print(server._process.pid, flush=True)
    sys.stdin.read()
"""


def connect(server: RedisServer) -> redis.Redis:
    once = Retry(NoBackoff(), retries=0)
    return redis.Redis(port=server.port, decode_responses=True, socket_timeout=0.05, retry=once)


@pytest.mark.parametrize("of_earlier", [0, 1])
def test_each_test_gets_an_empty_redis(redis_url: str, of_earlier: int) -> None:
    with redis.Redis.from_url(redis_url) as connection:
        assert connection.dbsize() == 0, of_earlier
        connection.set("left", "behind")


def test_a_redis_that_was_killed_comes_back_empty_on_its_port(start_redis: Callable[[], RedisServer]) -> None:
    server = start_redis()
    with connect(server) as connection:
        connection.set("key", "value")
        server.kill()
        with pytest.raises(redis.ConnectionError):
            connection.get("key")
        server.start()
        assert connection.get("key") is None


def test_a_redis_comes_back_with_an_old_dump(start_redis: Callable[[], RedisServer]) -> None:
    server = start_redis()
    with connect(server) as connection:
        connection.set("key", "saved")
        connection.save()
        connection.set("key", "later")
        server.kill()
        server.start()
        assert connection.get("key") == "saved"


def test_a_redis_that_is_paused_answers_when_it_goes_on(start_redis: Callable[[], RedisServer]) -> None:
    server = start_redis()
    with connect(server) as connection:
        assert connection.ping()
        server.pause()
        with pytest.raises(redis.TimeoutError):
            connection.ping()
        server.resume()
        assert connection.ping()


def test_servers_are_apart(start_redis: Callable[[], RedisServer], redis_url: str) -> None:
    servers = [start_redis(), start_redis()]
    assert len({redis_url, *(server.url for server in servers)}) == 3
    with connect(servers[0]) as first, connect(servers[1]) as second:
        first.set("key", "value")
        assert second.dbsize() == 0


def test_a_server_ends_with_an_owner_that_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _STARTS_ONE, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        server = psutil.Process(int(owner.stdout.readline()))
        owner.kill()
    server.wait(30.0)


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    folder = tmp_path / "redis"
    (folder / "dump.rdb").mkdir(parents=True)
    server = RedisServer(folder)
    with pytest.raises(EngineError, match=r"dump\.rdb"):
        server.start()


def test_without_redis_it_is_said_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _program: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(EngineMissingError, match="install redis-server"):
        find_redis()
