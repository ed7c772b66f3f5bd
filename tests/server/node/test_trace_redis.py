"""`tchat trace` asks Redis where a member is connected, and says when other nodes do not find them there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import redis

from protocol.dialog_types import DialogType
from protocol.ids import to_text
from server.config.settings import ClusterSettings, Config, ServerSettings, StorageSettings
from server.node.trace import trace
from server.node.trace_reasons import Trace
from tests.engines.redis_server import RedisServer
from tests.support.harness import Running, configured, running
from tests.support.turns import until
from tests.support.world import Person

pytestmark = pytest.mark.anyio


class Shared:
    """A node that shares its database, a message that Ann wrote to Bo, and the command."""

    def __init__(self, node: Running, url: str, server: RedisServer) -> None:
        self.node, self.server = node, server
        self._url = url
        self.bo: Person
        self._dialog = b""

    async def begin(self) -> None:
        ann, self.bo = await self.node.world.people(2)
        self._dialog = await self.node.world.create(DialogType.DIRECT, ann, self.bo)
        await self.node.world.say(self._dialog, ann)
        hints = self.node.node.hints
        assert hints is not None
        await until(lambda: hints.whereabouts.token)

    async def trace(self, *, ask: bool) -> Trace:
        """Trace the message; `ask`: the node, too."""
        config = Config(
            server=ServerSettings(admin_port=self.node.node.admin_port if ask else 1),
            storage=StorageSettings(postgres_url=self._url),
            cluster=ClusterSettings(redis_urls=(self.server.url,)),
        )
        return await asyncio.to_thread(trace, config, to_text(self._dialog), 2, to_text(self.bo.principal))


def why(found: Trace) -> str:
    [member] = found.members
    return member.devices[0].why


@pytest.fixture
async def shared(database_url: str, start_redis: Callable[[], RedisServer]) -> AsyncIterator[Shared]:
    server = start_redis()
    config = configured(cluster=ClusterSettings(redis_urls=(server.url,)))
    async with running(database_url, config) as node:
        made = Shared(node, database_url, server)
        await made.begin()
        yield made


async def test_redis_says_at_which_node_to_ask(shared: Shared) -> None:
    async with shared.node.live(shared.bo):
        incarnation = shared.node.node.incarnation
        expected = f"perhaps connected: Redis has its person at incarnation {incarnation}, which did not answer"
        assert why(await shared.trace(ask=False)) == expected
        assert why(await shared.trace(ask=True)).endswith(": gets events as they come")


async def test_who_is_nowhere_is_not_connected_whichever_nodes_answer(shared: Shared) -> None:
    assert why(await shared.trace(ask=False)).startswith("not connected: ")


async def test_a_connection_that_other_nodes_do_not_find_is_said(shared: Shared) -> None:
    async with shared.node.live(shared.bo):
        with redis.Redis(port=shared.server.port) as operator:
            [key] = operator.scan_iter("*:at:*")
            operator.delete(key)
        assert "Redis lacks it, so what other nodes write comes seconds later" in why(await shared.trace(ask=True))


async def test_without_redis_it_says_so(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.node.trace._ASK_TIMEOUT_S", 1.0)
    shared.server.kill()
    found = await shared.trace(ask=True)
    assert "Redis cannot be asked who is connected: see `tchat doctor`." in found.notes
