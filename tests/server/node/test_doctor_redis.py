"""`tchat doctor` looks at Redis: what is wrong with each instance, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import redis

from server.config.settings import ClusterSettings, Secret
from server.node import doctor
from server.node.doctor import Finding, examine_redis
from tests.engines.redis_server import RedisServer


@pytest.fixture
def server(start_redis: Callable[[], RedisServer]) -> RedisServer:
    return start_redis()


@pytest.fixture
def operator(server: RedisServer) -> Iterator[redis.Redis]:
    with redis.Redis(port=server.port) as connection:
        yield connection


def found(server: RedisServer, password: str = "") -> Finding:
    [finding] = examine_redis(ClusterSettings(redis_urls=(server.url,), redis_password=Secret(password)))
    return finding


def test_a_redis_as_it_is_installed_is_fine(server: RedisServer) -> None:
    assert (found(server).level, found(server).subject) == ("ok", f"Redis 127.0.0.1:{server.port}")


def test_each_instance_is_looked_at(server: RedisServer, start_redis: Callable[[], RedisServer]) -> None:
    another = start_redis()
    another.kill()
    findings = examine_redis(ClusterSettings(redis_urls=(server.url, another.url)))
    assert [finding.level for finding in findings] == ["ok", "problem"]
    assert "check cluster.redis_urls" in findings[1].text


def test_a_redis_that_hangs_is_a_problem(server: RedisServer) -> None:
    server.pause()
    assert "cannot be used (no answer)" in found(server).text


@pytest.mark.parametrize("password", ["", "wrong"])
def test_a_password_that_is_missing_or_wrong_is_a_problem(
    server: RedisServer, operator: redis.Redis, password: str
) -> None:
    operator.config_set("requirepass", "right")
    assert "set cluster.redis_password to its own" in found(server, password).text
    assert found(server, "right").level == "ok"


def test_a_redis_that_evicts_is_a_problem(server: RedisServer, operator: redis.Redis) -> None:
    operator.config_set("maxmemory-policy", "allkeys-lru")
    assert found(server).is_problem
    assert "CONFIG SET maxmemory-policy noeviction" in found(server).text


def test_a_redis_that_drops_nodes_early_is_a_problem(server: RedisServer, operator: redis.Redis) -> None:
    operator.config_set("client-output-buffer-limit", "pubsub 1mb 1mb 60")
    assert found(server).is_problem
    assert "it drops a node for which 1048576 bytes wait" in found(server).text


def test_a_replica_is_a_problem_and_to_have_one_is_a_note(
    server: RedisServer, start_redis: Callable[[], RedisServer]
) -> None:
    primary = start_redis()
    with redis.Redis(port=server.port) as replica, redis.Redis(port=primary.port) as operator:
        replica.replicaof("127.0.0.1", primary.port)
        while not operator.info("replication")["connected_slaves"]:
            pass
        assert "name the instance that it follows" in found(server).text
        assert (found(primary).level, "let nobody promote one" in found(primary).text) == ("note", True)


def test_a_redis_that_hides_its_settings_is_a_note(server: RedisServer, operator: redis.Redis) -> None:
    operator.acl_setuser("default", enabled=True, commands=["-config"])
    assert (found(server).level, "make sure of maxmemory-policy noeviction" in found(server).text) == ("note", True)


def test_an_old_redis_is_a_problem(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "REDIS_VERSION_MIN", (99,))
    assert "upgrade it to 99 or newer" in found(server).text
