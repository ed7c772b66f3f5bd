"""Fills the journal of an embedded PostgreSQL with rows that nobody reads: what messages cost beside millions of them.

The rows have dialogs of a hundred messages each, whose ids are spread as hashes are, and every index has its entry.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg

from loadtest.lean_client import LoadError

_NAME = "tchat"
_CONNECT_S = 30.0
_ROWS_PER_STATEMENT = 500_000
_ROWS_PER_DIALOG = 100
_BODY_BYTES = 290
"""A posted body with a payload of 256 bytes."""
_FILL = """
INSERT INTO journal (dialog_id, seq, author_id, device_id, n, tag, at_ms, messages, incarnation, flush_no, body)
SELECT md5('dialog' || row / $3)::uuid, row % $3 + 1, md5('author' || row / $3 % 1000)::uuid,
       md5('device' || row / $3 % 1000)::uuid, row + 1, 1, 0, row % $3 + 1,
       (SELECT max(incarnation) FROM incarnations), 0, decode(repeat('00', $4), 'hex')
FROM generate_series($1::bigint, $2::bigint - 1) AS row
"""


def fill_journal(data_dir: Path, rows: int) -> None:
    """Add so many rows, and have PostgreSQL write all of it out, so that no run pays for that; raises LoadError."""
    asyncio.run(_fill(data_dir, rows))


async def _fill(data_dir: Path, rows: int) -> None:
    sockets = data_dir / "run"
    if not sockets.is_dir():
        raise LoadError(f"{sockets} is too long a path for PostgreSQL's socket: set TMPDIR to a shorter one.")
    connection = await asyncpg.connect(host=str(sockets), user=_NAME, database=_NAME, timeout=_CONNECT_S)
    try:
        for first in range(0, rows, _ROWS_PER_STATEMENT):
            end = min(first + _ROWS_PER_STATEMENT, rows)
            await connection.execute(_FILL, first, end, _ROWS_PER_DIALOG, _BODY_BYTES)
        await connection.execute("VACUUM (ANALYZE) journal")
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()
