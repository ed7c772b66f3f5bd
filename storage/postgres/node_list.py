"""The lives of the nodes of a deployment, as an operator sees them: for `tchat nodes` and `tchat doctor`.

A lease that grows between two readings is a sign of life; a node that serves its database alone has none, and holds the
node lock instead (`incarnations.py`). Reads only. Bounded: all that are not fenced, and the `FENCED_MAX` newest others.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import msgspec

from storage.postgres.functions import INCARNATION_LOCKS
from storage.postgres.work_locks import HOLDERS, Work

FENCED_MAX = 10
_LOOK_S = 3.0
"""Between two readings of the leases: a node that lives renews its lease each second."""

_READ = f"""
SELECT i.incarnation, i.node, i.version, i.started_at_ms, i.ended_at_ms, i.fenced_at_ms, l.lease
FROM (SELECT * FROM incarnations WHERE fenced_at_ms IS NULL UNION ALL (
          SELECT * FROM incarnations WHERE fenced_at_ms IS NOT NULL ORDER BY incarnation DESC LIMIT {FENCED_MAX})) i
LEFT JOIN leases l ON l.incarnation = i.incarnation
ORDER BY i.incarnation DESC
"""
_SERVED_ALONE = f"""
SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND classid = {INCARNATION_LOCKS} AND objid = 0
               AND objsubid = 2 AND granted AND mode = 'ExclusiveLock'
               AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
"""


class NodeState(enum.Enum):
    """What a node does, with a sentence for an operator."""

    SERVES = "serves"
    STANDS_STILL = "stands still, and positions with it: its lease does not grow; other nodes end it, if there are any"
    GONE = "gone without saying so; the next start ends it"
    ENDING = "ended; a statement that it left running may still commit, and holds positions: look in pg_stat_activity"
    ENDED = "ended"


class NodeLife(msgspec.Struct, frozen=True):
    """One life of one node."""

    incarnation: int
    node: str
    version: str
    started_at_ms: int
    ended_at_ms: int | None
    fenced_at_ms: int | None
    lease: int | None
    state: NodeState
    works: tuple[str, ...] = ()
    """What it does for all, as far as this role may see it."""


async def list_nodes(
    connection: asyncpg.Connection[Any], *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> list[NodeLife]:
    """The lives, newest first. Waits a few seconds between two readings if there are leases to watch."""
    rows = await connection.fetch(_READ)
    before = {row["incarnation"]: row["lease"] for row in rows if row["lease"] is not None and not row["ended_at_ms"]}
    if before:
        await sleep(_LOOK_S)
        rows = await connection.fetch(_READ)
    alone = await connection.fetchval(_SERVED_ALONE)
    newest = max((row["incarnation"] for row in rows if not row["ended_at_ms"]), default=0)
    works = {
        incarnation: tuple(Work(number).name.lower() for number in numbers)
        for incarnation, numbers in await connection.fetch(HOLDERS)
    }
    return [
        NodeLife(
            **row,
            state=_judge(row, before, alone=alone and row["incarnation"] == newest),
            works=works.get(row["incarnation"], ()),
        )
        for row in rows
    ]


def _judge(row: asyncpg.Record, before: dict[int, int], *, alone: bool) -> NodeState:
    if row["fenced_at_ms"] is not None:
        return NodeState.ENDED
    if row["ended_at_ms"] is not None:
        return NodeState.ENDING
    if alone or (row["lease"] or 0) > before.get(row["incarnation"], 0):
        return NodeState.SERVES
    return NodeState.STANDS_STILL if row["incarnation"] in before else NodeState.GONE
