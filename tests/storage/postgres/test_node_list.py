"""What an operator sees of the nodes: which serve, which stand still, and which have ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from storage.postgres.incarnations import NodeLock
from storage.postgres.node_list import NodeState, list_nodes
from storage.postgres.nodes import PostgresNodes
from tests.support.world import World

pytestmark = pytest.mark.anyio

Sleep = Callable[[float], Awaitable[None]]


async def no_sleep(_seconds: float) -> None:
    """No time passes."""


async def states(url: str, sleep: Sleep = no_sleep) -> dict[int, NodeState]:
    connection = await asyncpg.connect(url)
    try:
        return {life.incarnation: life.state for life in await list_nodes(connection, sleep=sleep)}
    finally:
        await connection.close()


async def test_a_node_alone_serves_while_it_holds_the_lock(world: World, database_url: str) -> None:
    assert await states(database_url) == {world.incarnation: NodeState.GONE}
    lock = await NodeLock.take(database_url)
    assert await states(database_url) == {world.incarnation: NodeState.SERVES}
    await lock.replace()
    another = await world.journal.begin_incarnation("another")
    assert await states(database_url) == {another: NodeState.SERVES, world.incarnation: NodeState.ENDED}
    await lock.release()


async def test_of_nodes_that_share_a_database_those_live_whose_lease_grows(world: World, database_url: str) -> None:
    nodes = PostgresNodes(world.pool, world.pool)
    still = await world.journal.begin_incarnation("still")
    for each in (world.incarnation, still):
        await nodes.read_cluster(incarnation=each, since=0)

    async def renew(_seconds: float) -> None:
        await nodes.read_cluster(incarnation=world.incarnation, since=0)

    assert await states(database_url, renew) == {
        still: NodeState.STANDS_STILL,
        world.incarnation: NodeState.SERVES,
    }


async def test_what_has_ended_and_is_not_fenced_may_still_commit(world: World, database_url: str) -> None:
    nodes = PostgresNodes(world.pool, world.pool)
    await nodes.end(world.incarnation, lease=None)
    assert await states(database_url) == {world.incarnation: NodeState.ENDING}
    await nodes.fence(world.incarnation)
    assert await states(database_url) == {world.incarnation: NodeState.ENDED}


async def test_of_those_that_have_ended_the_newest_are_listed(world: World, database_url: str) -> None:
    nodes = PostgresNodes(world.pool, world.pool)
    for _ in range(15):
        incarnation = await world.journal.begin_incarnation("short")
        await nodes.end(incarnation, lease=None)
        await nodes.fence(incarnation)
    listed = await states(database_url)
    assert len(listed) == 11
    assert max(listed) == incarnation
    assert world.incarnation in listed
