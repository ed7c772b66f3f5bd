"""What the database knows of one message and of those whom it concerns: for `tchat trace`.

Reads only, one snapshot, and no content: of a body its kind and its size. Bounded: `MEMBERS_MAX` members,
`SIGN_INS_MAX` sign-ins of each, `LATER_MAX` events about the message. Ids are texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
import msgspec

from protocol.bodies import Deleted, Edited, Posted, Reacted, tag_of
from protocol.ids import to_text
from storage.postgres.dialog_states import tags_of
from storage.rows import TimelineRow

MEMBERS_MAX = 200
SIGN_INS_MAX = 10
LATER_MAX = 100
_TIMEOUT = "5s"

_T = TypeVar("_T", bound=msgspec.Struct)

_HEAD = """
SELECT h.type, h.mode, h.seq, h.roster_seq, h.member_count FROM heads h WHERE h.dialog_id = $1
"""

_ROW = f"""
SELECT j.seq, j.tag, j.author_id, j.device_id, j.n, j.at_ms, j.expires_at_ms, j.target, j.incarnation, j.flush_no,
       i.node, i.started_at_ms AS node_started_at_ms, j.xid::text::bigint AS xid, octet_length(j.body) AS bytes,
       CASE WHEN j.tag IN ({tags_of(Posted)}) THEN get_byte(j.body, 2) END AS kind,
       j.xid < pg_snapshot_xmin(pg_current_snapshot()) AS settled
FROM journal j LEFT JOIN incarnations i ON i.incarnation = j.incarnation
WHERE j.dialog_id = $1 AND j.seq = $2
"""

_LIVING = "SELECT incarnation, node FROM incarnations WHERE fenced_at_ms IS NULL AND ended_at_ms IS NULL"

_LATER = f"""
SELECT seq, tag, author_id, at_ms FROM journal
WHERE dialog_id = $1 AND tag IN ({tags_of(Edited, Deleted, Reacted)}) AND target = $2
ORDER BY seq LIMIT {LATER_MAX}
"""

_MEMBERS = f"""
SELECT m.principal_id, m.role, m.member, m.visible @> $2 AS visible, m.delivered, m.read, p.status,
       b.ended, b.began, j.tag AS end_tag, j.author_id AS end_author, j.at_ms AS end_at_ms
FROM (SELECT * FROM members x WHERE x.dialog_id = $1 AND ($3::uuid IS NULL OR x.principal_id = $3)
      ORDER BY x.principal_id LIMIT {MEMBERS_MAX + 1}) m
LEFT JOIN principals p ON p.principal_id = m.principal_id
CROSS JOIN LATERAL (
    SELECT max(upper(r.part)) FILTER (WHERE upper(r.part) <= $2) - 1 AS ended,
           min(lower(r.part)) FILTER (WHERE lower(r.part) > $2) AS began
    FROM unnest(m.visible) AS r(part)) b
LEFT JOIN journal j ON j.dialog_id = $1 AND j.seq = b.ended
ORDER BY m.principal_id
"""

_SIGN_INS = f"""
SELECT s.principal_id, s.sign_in_id, s.device_id, s.created_at_ms, s.last_used_at_ms, s.expires_at_ms, s.revoked_at_ms,
       s.revoked_why, s.platform, s.app_version
FROM unnest($1::uuid[]) AS p(principal_id)
CROSS JOIN LATERAL (
    SELECT * FROM sign_ins x WHERE x.principal_id = p.principal_id ORDER BY x.created_at_ms DESC LIMIT {SIGN_INS_MAX}) s
"""


class Head(msgspec.Struct, frozen=True):
    """A dialog."""

    type: int
    mode: int
    seq: int
    roster_seq: int
    member_count: int


class Row(msgspec.Struct, frozen=True):
    """An event. `settled`: positions of clients that are handed out from now on are past it.

    The archive knows neither the incarnation nor the flush nor the transaction.
    """

    seq: int
    tag: int
    author_id: str
    device_id: str
    n: int
    at_ms: int
    expires_at_ms: int | None
    target: int | None
    incarnation: int | None
    flush_no: int | None
    node: str | None
    node_started_at_ms: int | None
    xid: int | None
    bytes: int
    kind: int | None
    settled: bool


class LaterEvent(msgspec.Struct, frozen=True):
    """What was done later to the message."""

    seq: int
    tag: int
    author_id: str
    at_ms: int


class MemberRow(msgspec.Struct, frozen=True):
    """Somebody who is or was a member.

    If the number is not visible to them: `ended` is the last number before it that is, with what ended that; `began`
    the first after it.
    """

    principal_id: str
    role: int
    member: bool
    visible: bool
    delivered: int
    read: int
    status: int | None
    ended: int | None
    began: int | None
    end_tag: int | None
    end_author: str | None
    end_at_ms: int | None


class DeviceRow(msgspec.Struct, frozen=True):
    """A sign-in, with the device that it is of."""

    principal_id: str
    sign_in_id: str
    device_id: str
    created_at_ms: int
    last_used_at_ms: int
    expires_at_ms: int | None
    revoked_at_ms: int | None
    revoked_why: int | None
    platform: str
    app_version: str


class Found(msgspec.Struct, frozen=True):
    """All of it. `head` is None where there is no such dialog, `row` where the journal has no such number.

    `living` are the nodes that serve, by incarnation.
    """

    now_ms: int
    living: dict[int, str]

    head: Head | None
    row: Row | None
    later: list[LaterEvent]
    members: list[MemberRow]
    more_members: bool
    sign_ins: list[DeviceRow]
    deployment_key: bytes
    """By which this deployment's names in Redis are known."""


def add_archived(found: Found, row: TimelineRow | None, about: Sequence[TimelineRow]) -> Found:
    """What was found, with an event that only the archive has, and what the archive has about it."""
    if row is None:
        return found
    known = {each.seq for each in found.later}
    later = [_later(each) for each in about if each.event.seq not in known]
    event = row.event
    archived = Row(
        seq=event.seq,
        tag=row.tag,
        author_id=to_text(event.author),
        device_id=to_text(event.device),
        n=event.n,
        at_ms=event.at_ms,
        expires_at_ms=None,
        target=row.target,
        incarnation=None,
        flush_no=None,
        node=None,
        node_started_at_ms=None,
        xid=None,
        bytes=len(event.body),
        kind=bytes(event.body)[2] if row.tag == tag_of(Posted) else None,
        settled=True,
    )
    return msgspec.structs.replace(
        found, row=archived, later=sorted([*found.later, *later], key=lambda each: each.seq)[:LATER_MAX]
    )


def _later(row: TimelineRow) -> LaterEvent:
    return LaterEvent(row.event.seq, row.tag, to_text(row.event.author), row.event.at_ms)


async def read_trace(url: str, dialog: str, seq: int, member: str | None) -> Found:
    """Look number `seq` of a dialog up; of all members, or of `member` alone. Raises what asyncpg raises."""
    settings = {"default_transaction_read_only": "on", "statement_timeout": _TIMEOUT, "jit": "off"}
    connection = await asyncpg.connect(url, server_settings=settings)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            return await _read(connection, dialog, seq, member)
    finally:
        await connection.close()


async def _read(connection: asyncpg.Connection[Any], dialog: str, seq: int, member: str | None) -> Found:
    heads = await connection.fetch(_HEAD, dialog)
    rows = await connection.fetch(_ROW, dialog, seq)
    members = await connection.fetch(_MEMBERS, dialog, seq, member)
    shown = members[:MEMBERS_MAX]
    return Found(
        now_ms=await connection.fetchval("SELECT unix_ms()"),
        living=dict(await connection.fetch(_LIVING)),
        head=_structs(heads, Head)[0] if heads else None,
        row=_structs(rows, Row)[0] if rows else None,
        later=_structs(await connection.fetch(_LATER, dialog, seq), LaterEvent),
        members=_structs(shown, MemberRow),
        more_members=len(members) > len(shown),
        sign_ins=_structs(await connection.fetch(_SIGN_INS, [each["principal_id"] for each in shown]), DeviceRow),
        deployment_key=await connection.fetchval("SELECT position_key FROM deployment"),
    )


def _structs(rows: list[asyncpg.Record], kind: type[_T]) -> list[_T]:
    return [
        kind(**{name: str(value) if isinstance(value, UUID) else value for name, value in row.items()}) for row in rows
    ]
