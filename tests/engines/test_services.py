"""`make services`: servers that a node can use with the configuration that is written, until Ctrl-C."""

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from server.config.load import load
from tests.engines import __main__ as services
from tests.engines.cassandra_server import CassandraServer
from tests.engines.redis_server import RedisServer
from tests.engines.server_process import EngineMissingError


@pytest.fixture
def started(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """PostgreSQL and Redis, started as by a person, ready."""
    command = [sys.executable, "-m", "tests.engines", "--data", str(tmp_path), "postgres", "redis"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert any("Ctrl-C" in line for line in process.stdout)
            yield process
        finally:
            process.send_signal(signal.SIGTERM)


def is_one_of(process: psutil.Process, folder: Path) -> bool:
    """Whether a process works in this folder, as the servers do."""
    with contextlib.suppress(psutil.Error):
        return Path(process.cwd()).is_relative_to(folder)
    return False


@pytest.mark.anyio
async def test_a_node_can_use_the_services_with_the_config_that_is_written(
    started: "subprocess.Popen[str]", tmp_path: Path
) -> None:
    config = load(tmp_path / "config.toml", {})
    database = await asyncpg.connect(config.storage.postgres_url)
    assert await database.fetchval("SELECT 1") == 1
    await database.close()
    (url,) = config.cluster.redis_urls
    once = Retry(NoBackoff(), retries=0)
    with redis.Redis.from_url(url, retry=once) as connection:
        assert connection.ping()
        started.send_signal(signal.SIGINT)
        assert started.wait(90.0) == 0
        with pytest.raises(redis.ConnectionError):
            connection.ping()


def test_no_service_outlives_a_command_that_is_killed(started: "subprocess.Popen[str]", tmp_path: Path) -> None:
    servers = [each for each in psutil.process_iter() if is_one_of(each, tmp_path)]
    assert len(servers) >= 2
    started.kill()
    _, alive = psutil.wait_procs(servers, 90.0)
    assert alive == []


def test_what_is_missing_is_left_out_and_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(_server: object) -> None:
        raise EngineMissingError("There is none: install one.")

    monkeypatch.setattr(RedisServer, "start", missing)
    monkeypatch.setattr(CassandraServer, "start", missing)
    with contextlib.ExitStack() as running:
        assert services.start(("redis", "cassandra"), tmp_path, running) == "version = 1\n"
    assert capsys.readouterr().err.splitlines() == ["There is none: install one."] * 2


def test_a_node_is_given_the_cassandra_that_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(CassandraServer, "start", lambda _server: None)
    with contextlib.ExitStack() as running:
        (tmp_path / "config.toml").write_text(services.start(("cassandra",), tmp_path, running))
    storage = load(tmp_path / "config.toml", {}).storage
    assert storage.cql_hosts == ("127.0.0.1",)
    assert storage.cql_port != 9042
