"""Much of everything, written straight into the tables: what a thousand or a million real calls would have left."""

from __future__ import annotations

from typing import Any

import asyncpg

from protocol import bodies
from protocol.kinds import Kind
from tests.support.world import Person, encode

Connection = Any
"""A connection or a pool of asyncpg."""

_APPEND = """
WITH h AS (
    UPDATE heads SET seq = seq + $2, messages = messages + CASE WHEN $5 = 1 THEN $2 ELSE 0 END,
        xid = pg_current_xact_id()
    WHERE dialog_id = $1 RETURNING seq - $2 AS seq, messages - CASE WHEN $5 = 1 THEN $2 ELSE 0 END AS messages
)
INSERT INTO journal (dialog_id, seq, author_id, device_id, n, tag, target, at_ms, messages, incarnation, flush_no,
                     body)
SELECT $1, h.seq + g, a.id, a.id, g, $5, $6, 0, h.messages + CASE WHEN $5 = 1 THEN g ELSE 0 END, 1, 1, $4
FROM h, generate_series(1, $2::bigint) g,
     LATERAL (SELECT ($3::uuid[])[1 + g % cardinality($3::uuid[])] AS id) a
"""

_MEMBERS = """
WITH p AS (
    INSERT INTO principals (principal_id, tenant_id, type, created_at_ms)
    SELECT uuidv7(), 1, 1, 0 FROM generate_series(1, $2::bigint) RETURNING principal_id
), m AS (
    INSERT INTO members (dialog_id, principal_id, role, member, visible, from_seq, joined_at_ms)
    SELECT $1, principal_id, 0, true, '{[1,)}', 1, 9007199254740991 FROM p
)
UPDATE heads SET member_count = member_count + $2 WHERE dialog_id = $1
"""

_DIALOGS = """
WITH d AS (
    INSERT INTO dialogs (dialog_id, name, description, avatar_url, is_public, allow_media, message_retention_days,
                         moderation_enabled, created_by, created_at_ms)
    SELECT uuidv7(), 'name', '', '', false, true, 0, false, $1, 0 FROM generate_series(1, $2::bigint)
    RETURNING dialog_id
), h AS (
    INSERT INTO heads (dialog_id, tenant_id, type, mode, admins_only, seq, messages, roster_seq, keys_seq,
                       member_count, admin_count, xid)
    SELECT dialog_id, 1, 3, 2, false, 1, 1, 1, 0, 1, 1, pg_current_xact_id() FROM d
), m AS (
    INSERT INTO members (dialog_id, principal_id, role, member, visible, from_seq, joined_at_ms)
    SELECT dialog_id, $1, 1, true, '{[1,)}', 1, 0 FROM d
)
INSERT INTO journal (dialog_id, seq, author_id, device_id, n, tag, at_ms, messages, incarnation, flush_no, body)
SELECT dialog_id, 1, $1, $1, 1, 1, 0, 1, 1, 1, $3 FROM d
"""


async def add_messages(connection: Connection, dialog: bytes, author: Person, count: int) -> None:
    """That many messages."""
    body = encode(bodies.Posted(Kind.MESSAGE, bodies.Header(), b"hello"))
    await connection.execute(_APPEND, dialog, count, [author.principal], body, 1, None, timeout=600)


async def add_reactions(connection: Connection, dialog: bytes, authors: list[bytes], target: int, count: int) -> None:
    """That many reactions to a message, by each author in turn."""
    body = encode(bodies.Reacted(target, b"+"))
    await connection.execute(_APPEND, dialog, count, authors, body, 4, target, timeout=600)


async def add_edits(connection: Connection, dialog: bytes, author: Person, target: int, count: int) -> None:
    """That many edits of a message."""
    body = encode(bodies.Edited(target, b"edited"))
    await connection.execute(_APPEND, dialog, count, [author.principal], body, 2, target, timeout=600)


async def add_members(connection: Connection, dialog: bytes, count: int) -> None:
    """That many members, who have been there from the start."""
    await connection.execute(_MEMBERS, dialog, count, timeout=600)


async def add_dialogs(connection: Connection, person: Person, count: int) -> None:
    """That many dialogs of a person, with one message each."""
    body = encode(bodies.Posted(Kind.MESSAGE, bodies.Header(), b"hello"))
    await connection.execute(_DIALOGS, person.principal, count, body, timeout=600)


async def count_blocks(connection: asyncpg.Connection[Any] | asyncpg.Pool[Any]) -> int:
    """Blocks of tables and indexes that were touched so far, by this connection and those that have ended."""
    await connection.execute("SELECT pg_stat_force_next_flush()")
    return int(
        await connection.fetchval(
            "SELECT sum(coalesce(heap_blks_read + heap_blks_hit, 0) + coalesce(idx_blks_read + idx_blks_hit, 0)"
            " + coalesce(toast_blks_read + toast_blks_hit, 0) + coalesce(tidx_blks_read + tidx_blks_hit, 0))"
            " FROM pg_statio_user_tables"
        )
    )
