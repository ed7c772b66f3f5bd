"""The epoch: ids of transactions, and so positions, mean something in one history of one PostgreSQL cluster only.

A restore from a dump brings the rows into another cluster (another system identifier), whose transaction ids are lower
than those in the rows' stamps. A promoted standby, or a base backup that was recovered, goes on in another timeline and
may give ids out again. Both begin an epoch. Only a standby that was synchronous has all that was ever acked, and all
that a horizon was handed out for: its promotion may be declared to go on with the same history. Stamps that are beyond
the cluster's own ids are put before all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import asyncpg

from storage.postgres.functions import LOWEST_XID
from storage.unavailable import StorageUnavailableError

_PAGES_PER_STEP = 8_000  # 64 MB

HISTORY = """
SELECT c.system_identifier AS system_now,
       CASE WHEN NOT pg_is_in_recovery() THEN
           ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::bigint END AS timeline_now
FROM pg_control_system() c
"""
"""Which history of transactions this is; a standby has no timeline. It is that of the log that is written now: the
control file has it only after the first checkpoint."""
IS_SETTLED = f"""
(SELECT d.system_identifier IS NULL OR (d.system_identifier, d.timeline_id) = ({HISTORY}) FROM deployment d)
"""
"""Whether the epoch is that of this history; it costs 0.15 ms."""
_HISTORIES = f"SELECT d.epoch, d.system_identifier, d.timeline_id, h.* FROM deployment d, ({HISTORY}) h"
_BEGIN = """
UPDATE deployment SET system_identifier = $1, timeline_id = $2, epoch = greatest(epoch + 1, unix_ms()) RETURNING epoch
"""
_LIVES_SKIPPED = 1_000
_SKIP_LIVES = f"""
SELECT setval(s.name, nextval(s.name) + {_LIVES_SKIPPED})
FROM (SELECT pg_get_serial_sequence('incarnations', 'incarnation')::regclass AS name) AS s
"""
"""A node that began in the history that was lost may live on: nobody gets its number, so it finds itself ended."""
_GO_ON = "UPDATE deployment SET timeline_id = $1"
_STAMPS = """
SELECT c.oid::regclass::text AS "table", quote_ident(a.attname) AS "column",
       pg_relation_size(c.oid) / current_setting('block_size')::bigint AS pages
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' AND a.atttypid = 'xid8'::regtype
ORDER BY 1
"""


async def settle_epoch(
    connection: asyncpg.Connection[Any], progress: Callable[[str], None], *, synchronous: bool = False
) -> int:
    """The deployment's epoch; a new one if this is another history than the one it was last settled for.

    `synchronous`: another timeline of the same cluster is a standby that lacks nothing.

    Called by the node that may serve, before it serves. It may be interrupted: the next call does it again.
    """
    (found,) = await connection.fetch(_HISTORIES)
    if found["timeline_now"] is None:
        raise StorageUnavailableError("PostgreSQL is a standby here, which nobody has promoted")
    epoch: int = found["epoch"]
    if (found["system_identifier"], found["timeline_id"]) == (found["system_now"], found["timeline_now"]):
        return epoch
    same_system = found["system_identifier"] == found["system_now"]
    if same_system and synchronous:
        await connection.execute(_GO_ON, found["timeline_now"])
        progress("a synchronous standby was promoted: clients go on")
        return epoch
    if not same_system:
        await _rebase(connection, progress)
    if found["system_identifier"] is not None:  # else no node has served it before
        await connection.execute(_SKIP_LIVES)
    epoch = await connection.fetchval(_BEGIN, found["system_now"], found["timeline_now"])
    if found["system_identifier"] is not None:
        progress(f"epoch {epoch} begins: clients read their dialogs anew")
    return epoch


async def _rebase(connection: asyncpg.Connection[Any], progress: Callable[[str], None]) -> None:
    """Put the stamps that this cluster has not given out yet before all that it will."""
    await connection.execute("UPDATE archiving SET moved = '0'")  # a stamp, and those of rows fall below it
    next_xid = await connection.fetchval("SELECT pg_snapshot_xmax(pg_current_snapshot())::text")
    for table, column, pages in await connection.fetch(_STAMPS):
        for first in range(0, pages, _PAGES_PER_STEP):
            last = first + _PAGES_PER_STEP
            done = await connection.execute(
                f"UPDATE {table} SET {column} = '{LOWEST_XID}'"
                f" WHERE ctid >= '({first},0)' AND ctid < '({last},0)' AND {column} >= $1::text::xid8",
                next_xid,
            )
            if done != "UPDATE 0":
                progress(f"stamps of another cluster in {table}: {min(last, pages)} of {pages} pages done")
    # Of the rows that keep their stamps some are older than what has left the journal.
    await connection.execute(
        "UPDATE trimming SET newest = ($1::bigint - 1)::text::xid8 WHERE newest <> '0'", int(next_xid)
    )
