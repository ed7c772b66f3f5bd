"""The open writing transaction that has been open longest: it holds the horizon, and so every client's position.

Any in the whole cluster does, in another database too, idle or busy, and a prepared one. Those of other roles are
visible only to members of `pg_read_all_stats`.
"""

from __future__ import annotations

from typing import Any

import asyncpg
import msgspec

from storage.postgres.pool import Pool

_OLDEST = """
SELECT 'pid ' || pid || ', ' || coalesce(state, 'unknown') || ' in database ' || coalesce(datname, 'unknown') AS what,
       xact_start AS began
FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()
UNION ALL
SELECT 'prepared as ' || quote_literal(gid) || ' in database ' || database, prepared FROM pg_prepared_xacts
"""
_QUERY = f"""
SELECT what, extract(epoch FROM clock_timestamp() - began)::float8 AS open_s FROM ({_OLDEST}) x ORDER BY began LIMIT 1
"""


class OldestWriter(msgspec.Struct, frozen=True):
    """Which transaction, in words, and how long it has been open."""

    what: str
    open_s: float


async def find_oldest_writer(database: Pool | asyncpg.Connection[Any]) -> OldestWriter | None:
    """The one of this moment, if there is any that this role may see."""
    row = await database.fetchrow(_QUERY)
    return None if row is None else OldestWriter(row["what"], row["open_s"])
