"""`tchat nodes`: the lives of the nodes that serve a database, and how each is."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Sequence

import asyncpg

from server.config.settings import Config
from server.node.postgres_start import visited_postgres
from server.startup_error import StartupError
from storage.postgres.node_list import NodeLife, list_nodes

_HEAD = ("incarnation", "node", "version", "since", "lease", "state", "work")


def read_nodes(config: Config) -> list[NodeLife]:
    """The lives in this configuration's database. Raises StartupError and what reading a database raises."""
    with visited_postgres(config) as url:
        if url is None:
            raise StartupError(f"There is no database in {config.server.data_dir} yet.")
        return asyncio.run(_read(url))


async def _read(url: str) -> list[NodeLife]:
    connection = await asyncpg.connect(url, server_settings={"default_transaction_read_only": "on"})
    try:
        return await list_nodes(connection)
    except (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError):
        raise StartupError("The schema is older than this version: run `tchat migrate`.") from None
    finally:
        await connection.close()


def as_text(lives: Sequence[NodeLife]) -> str:
    """For a person: a table."""
    rows = [_HEAD, *(_cells(life) for life in lives)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n".join(lines if lives else [*lines, "No node has served this database yet."])


def _cells(life: NodeLife) -> tuple[str, ...]:
    state = life.state.value
    if life.ended_at_ms is not None:
        state = f"{state} ({_time(life.ended_at_ms)})"
    lease = "" if life.lease is None else str(life.lease)
    return str(life.incarnation), life.node, life.version, _time(life.started_at_ms), lease, state, " ".join(life.works)


def _time(at_ms: int) -> str:
    return dt.datetime.fromtimestamp(at_ms / 1000, dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
