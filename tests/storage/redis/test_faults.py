"""What a real Redis does to messages and presence when it is cut, wiped, restarted or silent: it is always seen."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest
import redis

from protocol.ids import new_id
from storage.bus import ConnectionKey
from storage.redis.bus import RedisBus
from storage.redis.instance import RedisUrl
from storage.redis.presence import RedisPresence
from tests.engines.redis_server import RedisServer
from tests.support.receiver import Received
from tests.support.redis_instances import connected

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[{"debug": True}, {"use_uvloop": True}], ids=["asyncio debug", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Both loops: a node runs on uvloop, whose transports differ."""
    return "asyncio", request.param


async def test_a_killed_subscription_is_an_interruption_and_comes_back(
    own_redis: RedisServer, redis_operator: redis.Redis
) -> None:
    async with connected(own_redis.url) as instances, Received.on(RedisBus(instances, "test"), 7) as received:
        redis_operator.client_kill_filter(_type="pubsub")
        await received.until(interruptions=3)  # when it is lost, and when it is back
        RedisBus(instances, "test").publish(7, b"after")
        assert await received.until(messages=1) == [b"after"]


async def test_a_reader_that_redis_drops_for_being_slow_is_interrupted(
    own_redis: RedisServer, redis_operator: redis.Redis
) -> None:
    redis_operator.config_set("client-output-buffer-limit", "pubsub 1mb 1mb 60")
    async with connected(own_redis.url) as instances, Received.on(RedisBus(instances, "test"), 7) as received:
        for _ in range(200):  # in one turn of the loop, so nothing is read meanwhile
            redis_operator.publish("test:node:7", bytes(100_000))
        await received.until(interruptions=3)
        assert len(received.messages) < 200


async def test_a_redis_that_is_silent_interrupts(own_redis: RedisServer) -> None:
    async with connected(own_redis.url) as instances, Received.on(RedisBus(instances, "test"), 7) as received:
        own_redis.pause()
        await received.until(interruptions=2)
        own_redis.resume()
        await received.until(interruptions=3)


async def test_a_wipe_changes_the_token(own_redis: RedisServer, redis_operator: redis.Redis) -> None:
    key = ConnectionKey(new_id(), 1, 1)
    async with connected(own_redis.url) as instances:
        store = RedisPresence(instances, "test")
        before = await token_of(store)
        assert await store.put([key]) == before
        redis_operator.flushall()
        assert (await store.locate([key.principal])).token == ""
        assert await token_of(store) not in ("", before)


async def test_who_finds_no_token_gets_none_though_it_makes_one(own_redis: RedisServer) -> None:
    async with connected(own_redis.url) as instances:
        store = RedisPresence(instances, "test")
        assert await store.put([ConnectionKey(new_id(), 1, 1)]) == ""
        assert await store.put([ConnectionKey(new_id(), 1, 1)]) != ""


@pytest.mark.parametrize("dump", [False, True])
async def test_a_restart_changes_the_token_even_when_an_old_dump_brings_the_key_back(
    own_redis: RedisServer, redis_operator: redis.Redis, *, dump: bool
) -> None:
    early, late = ConnectionKey(new_id(), 1, 1), ConnectionKey(new_id(), 1, 2)
    async with connected(own_redis.url) as instances:
        store = RedisPresence(instances, "test")
        before = await token_of(store)
        await store.put([early])
        if dump:
            redis_operator.save()
        await store.put([late])
        own_redis.kill()
        own_redis.start()
        redis_operator.ping()
        assert redis_operator.exists("test:token") == dump
        await when_it_answers(store)
        located = await store.locate([early.principal, late.principal])
        assert located.nodes == [[], []]
        assert located.token != before
        await store.put([early])
        assert (await store.locate([early.principal])).nodes == [[1]]


async def test_what_a_node_of_an_older_version_wrote_is_found(own_redis: RedisServer) -> None:
    key = ConnectionKey(new_id(), 7, 1)
    async with connected(own_redis.url) as instances:
        store = RedisPresence(instances, "test")
        await token_of(store)
        await instances[0].ask([("HSET", b"test:at:" + key.principal, struct.pack(">QQ", 7, 1), b"")], count=1)
        assert (await store.locate([key.principal])).nodes == [[7]]


async def test_a_redis_that_hangs_is_away_at_once_for_all_and_comes_back(own_redis: RedisServer) -> None:
    key = ConnectionKey(new_id(), 1, 1)
    async with connected(own_redis.url) as instances:
        store = RedisPresence(instances, "test")
        await token_of(store)
        await store.put([key])
        own_redis.pause()
        assert (await store.locate([key.principal])).token == ""
        assert not instances[0].answers.is_set()
        assert await store.put([key]) == ""
        own_redis.resume()
        await instances[0].answers.wait()
        assert (await store.locate([key.principal])).nodes == [[1]]


async def test_one_instance_of_two_that_is_away_takes_the_token_and_its_own_share(
    start_redis: Callable[[], RedisServer],
) -> None:
    servers = [start_redis(), start_redis()]
    keys = [ConnectionKey(new_id(), 1, number) for number in range(50)]
    async with connected(*(each.url for each in servers)) as instances:
        store = RedisPresence(instances, "test")
        await token_of(store)
        await store.put(keys)
        servers[0].kill()
        located = await store.locate([key.principal for key in keys])
        assert located.token == ""
        there = sum(nodes == [1] for nodes in located.nodes)
        assert 0 < there < len(keys)


async def test_a_password_and_a_database_are_used(own_redis: RedisServer, redis_operator: redis.Redis) -> None:
    redis_operator.config_set("requirepass", "open sesame")
    async with connected(own_redis.url.replace("redis://", "redis://:open%20sesame@") + "/3") as instances:
        await token_of(RedisPresence(instances, "test"))
    with redis.Redis(port=own_redis.port, db=3, password="open sesame") as other:
        assert other.exists("test:token")


@pytest.mark.parametrize("text", ["", "127.0.0.1:6379", "http://127.0.0.1", "redis://"])
def test_an_address_that_is_no_redis_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a redis"):
        RedisUrl(text)


async def token_of(store: RedisPresence) -> str:
    """The token, made if need be."""
    return await store.read_token() or await store.read_token()


async def when_it_answers(store: RedisPresence) -> None:
    """Return when every instance answers again, after a restart of which the loop has not heard yet."""
    assert await store.read_token() == ""
    for instance in store._instances:
        await instance.answers.wait()
