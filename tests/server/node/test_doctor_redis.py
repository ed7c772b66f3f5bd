"""`tchat doctor` looks at Redis: what is wrong with each instance, and what to do."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from server.config.setting_types import Secret
from server.config.settings import ClusterSettings
from server.node import doctor
from server.node.doctor import examine_redis
from server.node.finding import Finding
from tests.engines.redis_server import RedisServer


def found(server: RedisServer, password: str = "") -> Finding:
    [finding] = examine_redis(ClusterSettings(redis_urls=(server.url,), redis_password=Secret(password)))
    return finding


def test_a_redis_as_it_is_installed_is_fine(own_redis: RedisServer) -> None:
    assert (found(own_redis).level, found(own_redis).subject) == ("ok", f"Redis 127.0.0.1:{own_redis.port}")


def test_each_instance_is_looked_at(own_redis: RedisServer, start_redis: Callable[[], RedisServer]) -> None:
    another = start_redis()
    another.kill()
    findings = examine_redis(ClusterSettings(redis_urls=(own_redis.url, another.url)))
    assert [finding.level for finding in findings] == ["ok", "problem"]
    assert "check cluster.redis_urls" in findings[1].text


def test_a_redis_that_hangs_is_a_problem(own_redis: RedisServer) -> None:
    own_redis.pause()
    assert "cannot be used (no answer)" in found(own_redis).text


@pytest.mark.parametrize("password", ["", "wrong"])
def test_a_password_that_is_missing_or_wrong_is_a_problem(
    own_redis: RedisServer, redis_operator: redis.Redis, password: str
) -> None:
    redis_operator.config_set("requirepass", "right")
    assert "set cluster.redis_password to its own" in found(own_redis, password).text
    assert found(own_redis, "right").level == "ok"


def test_a_redis_that_evicts_is_a_problem(own_redis: RedisServer, redis_operator: redis.Redis) -> None:
    redis_operator.config_set("maxmemory-policy", "allkeys-lru")
    assert found(own_redis).is_problem
    assert "CONFIG SET maxmemory-policy noeviction" in found(own_redis).text


def test_a_redis_that_drops_nodes_early_is_a_problem(own_redis: RedisServer, redis_operator: redis.Redis) -> None:
    redis_operator.config_set("client-output-buffer-limit", "pubsub 1mb 1mb 60")
    assert found(own_redis).is_problem
    assert "it drops a node for which 1048576 bytes wait" in found(own_redis).text


def test_a_replica_is_a_problem_and_to_have_one_is_a_note(
    own_redis: RedisServer, start_redis: Callable[[], RedisServer]
) -> None:
    primary = start_redis()
    with redis.Redis(port=own_redis.port) as replica, redis.Redis(port=primary.port) as operator:
        replica.replicaof("127.0.0.1", primary.port)
        while not operator.info("replication")["connected_slaves"]:
            pass
        assert "name the instance that it follows" in found(own_redis).text
        assert (found(primary).level, "let nobody promote one" in found(primary).text) == ("note", True)


def test_a_redis_that_hides_its_settings_is_a_note(own_redis: RedisServer, redis_operator: redis.Redis) -> None:
    redis_operator.acl_setuser("default", enabled=True, commands=["-config"])
    finding = found(own_redis)
    assert (finding.level, "make sure of maxmemory-policy noeviction" in finding.text) == ("note", True)


def test_an_old_redis_is_a_problem(own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "REDIS_VERSION_MIN", (99,))
    assert "upgrade it to 99 or newer" in found(own_redis).text
