"""A write that PostgreSQL does not answer: strangers go on, the node says so, and nothing is lost or stored twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from protocol.bodies import TimelineEvent
from protocol.commands import Heartbeat, Send
from protocol.dialog_types import DialogType
from protocol.events import HeartbeatReply
from protocol.replies import Failed
from server.config.settings import PipelineSettings, StorageSettings
from tests.support.harness import Running, Wire, configured, running

pytestmark = pytest.mark.anyio

_ONE_LANE = PipelineSettings(lanes=1, retry_max_s=0.1, retry_total_s=0.5)
_HURRIED = StorageSettings(statement_timeout_s=0.4)
_SLOW_COMMIT = """
CREATE FUNCTION slow_commit() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN PERFORM pg_sleep(1.5); RETURN NULL; END';
CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON journal DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (NEW.n = 666) EXECUTE FUNCTION slow_commit();
"""
"""A row with the number 666 takes so long to commit, each time, that its flush gets no answer."""


@pytest.fixture
async def node(database_url: str) -> AsyncIterator[Running]:
    async with running(database_url, configured(pipeline=_ONE_LANE, storage=_HURRIED)) as opened:
        yield opened


async def send(wire: Wire, dialog: bytes, n: int) -> str | int:
    """The number of the message, or the code of the refusal."""
    reply = await wire.ask(Send(n, dialog, n, b"whatever happens"))
    return reply.code if isinstance(reply, Failed) else int(reply.seq)


async def until_free(node: Running) -> None:
    """Return once nothing is set aside, and nothing says so any more."""
    async with asyncio.timeout(30):
        await node.node.pipeline.wait_drained()
    assert node.node.find_trouble() == ""


async def test_a_held_head_stops_its_own_dialog_alone(node: Running) -> None:
    ann, bo, cy = await node.world.people(3)
    held, free = [await node.world.create(DialogType.DIRECT, ann, other) for other in (bo, cy)]
    async with node.live(ann) as a, node.live(cy) as c:
        async with node.world.held(held):
            assert await send(a, held, 10) == "unavailable"
            assert [await send(c, free, n) for n in (20, 21, 22)] == [2, 3, 4]
            assert "set aside" in node.node.find_trouble()
            assert node.node.find_obstacle() == ""  # a proxy must not take the node away from all the others
        await until_free(node)
        async with asyncio.timeout(30):
            assert await send(a, held, 10) == 2


async def test_a_commit_without_an_answer_is_delivered_once_and_before_any_position_passes_it(node: Running) -> None:
    ann, bo, cy = await node.world.people(3)
    slow, free = [await node.world.create(DialogType.DIRECT, ann, other) for other in (bo, cy)]
    await node.world.pool.execute(_SLOW_COMMIT)
    async with node.live(ann) as a, node.live(bo) as b, node.live(cy) as c:
        assert await send(a, slow, 666) == "unavailable"
        assert await send(c, free, 20) == 2
        await b.send(Heartbeat(0))
        position = (await b.until(HeartbeatReply)).position
        async with node.live(bo, position=position) as late:
            seen = [message for message in late.caught_up if isinstance(message, TimelineEvent)]
            while not any(event.n == 666 for event in seen):
                seen.append(await late.until(TimelineEvent))
            assert [event.seq for event in seen if event.n == 666] == [2]
        await until_free(node)
        assert await send(a, slow, 666) == 2
        assert await send(a, slow, 667) == 3
    rows = await node.world.pool.fetch("SELECT n FROM journal WHERE dialog_id = $1 ORDER BY seq", slow)
    assert [row[0] for row in rows][1:] == [666, 667]
