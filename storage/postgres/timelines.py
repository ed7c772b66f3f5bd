"""`Timelines` on PostgreSQL: with the embedded engine the journal is the whole timeline."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg
import msgspec

from protocol.bodies import (
    Body,
    Deleted,
    DialogCreated,
    Edited,
    Erased,
    Reacted,
    Settings,
    SettingsChanged,
    TimelineEventRaw,
    tag_of,
)
from protocol.dialog_types import DialogType, Mode, Role
from protocol.events import DialogState
from protocol.replies import Member
from storage.postgres.pool import Pool, translate_errors
from storage.rows import (
    DialogRoster,
    DialogRow,
    PrincipalStatus,
    SignInState,
    Snapshot,
)
from storage.timelines import PAGE_BYTES_MAX, Timelines

_decode_known = msgspec.msgpack.Decoder(DialogCreated | SettingsChanged).decode


def _tags(*bodies: type[Body]) -> str:
    return ", ".join(str(tag_of(body)) for body in bodies)


_NAME_A_DIALOG = _tags(DialogCreated, SettingsChanged)
_ARE_ABOUT_A_MESSAGE = _tags(Edited, Deleted, Reacted)

_EXTRAS = tuple(
    field.name for field in msgspec.structs.fields(DialogState) if not field.required and field.name != "members"
)
"""Fields of a state that have a default are columns of `dialogs` of the same name; former members see the default."""

_DIALOG_COLUMNS = f"""
    h.dialog_id, h.type, h.mode, {"".join(f"d.{name}, " for name in ("name", "description", "avatar_url", *_EXTRAS))}
    d.is_public, d.allow_media, d.message_retention_days, d.moderation_enabled,
    m.role, m.member, h.seq, h.keys_seq, h.member_count, m.visible,
    m.delivered, m.read, m.read_messages, m.muted_until_ms,
    CASE WHEN m.member THEN h.messages ELSE (
        SELECT j.messages FROM journal j WHERE j.dialog_id = h.dialog_id AND j.seq = upper(m.visible) - 1)
    END AS messages,
    CASE WHEN NOT m.member THEN (
        SELECT j.body FROM journal j
        WHERE j.dialog_id = h.dialog_id AND j.tag IN ({_NAME_A_DIALOG}) AND j.seq < upper(m.visible)
        ORDER BY j.seq DESC LIMIT 1)
    END AS known
"""
"""Former members see the dialog as it was when they left; `known` is the last body that named it until then."""

# What a position lacks: from the first number after the newest row that it covers. The scan goes back from the head
# and stops there, or after one row more than `events_max`, which is too many.
_UNSEEN_FROM = """
    CASE
        WHEN $3::bigint IS NULL THEN greatest(h.seq - $4, 0) + 1
        WHEN h.xid < $3::text::xid8 THEN h.seq + 1
        ELSE coalesce((SELECT max(j.seq) FROM journal j WHERE j.dialog_id = h.dialog_id
                         AND j.seq >= h.seq - $5 AND j.xid < $3::text::xid8), greatest(h.seq - 1 - $5, 0)) + 1
    END
"""

_SNAPSHOT = f"""
WITH asker AS MATERIALIZED (
    SELECT CASE
               WHEN p.status = {PrincipalStatus.SUSPENDED} THEN {SignInState.SUSPENDED}
               WHEN p.status = {PrincipalStatus.DELETED} THEN {SignInState.DELETED}
               WHEN s.sign_in_id IS NULL OR s.revoked_at_ms IS NOT NULL THEN {SignInState.REVOKED}
               ELSE {SignInState.LIVE}
           END AS state
    FROM principals p LEFT JOIN sign_ins s ON s.sign_in_id = $2 AND s.principal_id = p.principal_id
    WHERE p.principal_id = $1
), now AS MATERIALIZED (
    SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS horizon,
           pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS next_xid,
           (SELECT epoch FROM deployment) AS epoch
), changed AS (
    SELECT {_DIALOG_COLUMNS}, {_UNSEEN_FROM} AS unseen_from
    FROM members m
    JOIN heads h ON h.dialog_id = m.dialog_id
    JOIN dialogs d ON d.dialog_id = m.dialog_id
    LEFT JOIN receipt_heads k ON k.dialog_id = m.dialog_id
    WHERE m.principal_id = $1 AND (SELECT state FROM asker) = {SignInState.LIVE}
      AND CASE WHEN $3::bigint IS NULL THEN m.member
               ELSE m.xid >= $3::text::xid8
                    OR (m.member AND (h.xid >= $3::text::xid8 OR k.xid >= $3::text::xid8)) END
)
SELECT coalesce((SELECT state FROM asker), {SignInState.DELETED}) AS state,
       now.epoch, now.horizon, now.next_xid, changed.*
FROM now LEFT JOIN changed ON true
"""

_DIALOGS = f"""
SELECT {_DIALOG_COLUMNS}, h.seq + 1 AS unseen_from
FROM members m JOIN heads h ON h.dialog_id = m.dialog_id JOIN dialogs d ON d.dialog_id = m.dialog_id
WHERE m.principal_id = $1 AND m.dialog_id = ANY ($2)
"""

_ERASED = msgspec.msgpack.encode(Erased()).hex()

_HANGS_ON_ERASED = f"""(j.tag IN ({_tags(Edited, Reacted)}) AND EXISTS (
    SELECT 1 FROM journal t WHERE t.dialog_id = j.dialog_id AND t.seq = j.target AND t.tag = {_tags(Erased)}))"""

_TIMELINE = f"""(
    SELECT j.dialog_id, j.seq, j.author_id, j.device_id, j.n, j.tag, j.target, j.at_ms, j.messages,
           {_HANGS_ON_ERASED} AS hangs_on_erased,
           CASE WHEN {_HANGS_ON_ERASED} THEN '\\x{_ERASED}'::bytea ELSE j.body END AS body
    FROM journal j)"""
"""The rows of the journal as they are read. Every read of events is FROM this: an edit or a reaction of an erased
message counts as erased from the moment of the erasure, though its own row is blanked only later."""

_ROW_COLUMNS = "j.dialog_id, j.seq, j.author_id, j.device_id, j.n, j.at_ms, j.messages, j.body"


def _before(order: str) -> str:
    """Bytes of the rows before a row in a page, which are known without reading the bodies."""
    rows = "ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING"
    return f"coalesce(sum(octet_length(j.body)) OVER (ORDER BY {order} {rows}), 0)"


_EVENTS = f"""
SELECT {_ROW_COLUMNS} FROM (
    SELECT {_ROW_COLUMNS}, r.ord, {_before("r.ord, j.seq")} AS before
    FROM unnest($2::uuid[], $3::bigint[], $4::bigint[]) WITH ORDINALITY AS r(dialog_id, first, last, ord)
    JOIN members m ON m.dialog_id = r.dialog_id AND m.principal_id = $1
    CROSS JOIN LATERAL (
        SELECT * FROM {_TIMELINE} x
        WHERE x.dialog_id = r.dialog_id AND x.seq BETWEEN r.first AND r.last AND m.visible @> x.seq
        ORDER BY x.seq LIMIT $5) j) j
WHERE j.before < {PAGE_BYTES_MAX}
ORDER BY j.ord, j.seq
"""

_NEWEST = f"""
SELECT {_ROW_COLUMNS} FROM (
    SELECT {_ROW_COLUMNS}, {_before("j.seq DESC")} AS before FROM (
        SELECT j.* FROM {_TIMELINE} j JOIN members m ON m.dialog_id = j.dialog_id AND m.principal_id = $1
        WHERE j.dialog_id = $2 AND j.seq BETWEEN $3 AND $4 AND m.visible @> j.seq
        ORDER BY j.seq DESC LIMIT $5) j) j
WHERE j.before < {PAGE_BYTES_MAX}
ORDER BY j.seq
"""

_VISIBLE_BY_TARGET = "m.visible @> j.target AND int8range(1, upper(m.visible)) @> j.seq"
"""What was done to a message concerns those who may see the message, and were away meanwhile and have returned, too."""

_REACTIONS_LAST = f"j.tag = {_tags(Reacted)}, j.seq DESC"

_LATER = f"""
SELECT {_ROW_COLUMNS} FROM (
    SELECT {_ROW_COLUMNS}, {_before(_REACTIONS_LAST)} AS before FROM (
        SELECT j.* FROM {_TIMELINE} j JOIN members m ON m.dialog_id = j.dialog_id AND m.principal_id = $1
        WHERE j.dialog_id = $2 AND j.tag IN ({_ARE_ABOUT_A_MESSAGE}) AND j.target BETWEEN $3 AND $4 AND j.seq > $4
          AND {_VISIBLE_BY_TARGET} AND NOT j.hangs_on_erased
        ORDER BY {_REACTIONS_LAST} LIMIT $5) j) j
WHERE j.before < {PAGE_BYTES_MAX}
ORDER BY j.seq
"""

_ROSTER = """
SELECT h.type, h.roster_seq, m.principal_id, m.from_seq
FROM heads h LEFT JOIN members m ON m.dialog_id = h.dialog_id AND m.member
WHERE h.dialog_id = $1
"""

_MEMBERS = """
SELECT r.dialog_id, o.principal_id, o.role, o.name, o.delivered, o.read
FROM unnest($2::uuid[]) AS r(dialog_id)
JOIN members m ON m.dialog_id = r.dialog_id AND m.principal_id = $1 AND m.member
CROSS JOIN LATERAL (
    SELECT x.principal_id, x.role, coalesce(p.display_name, '') AS name, x.delivered, x.read
    FROM members x LEFT JOIN people p ON p.principal_id = x.principal_id
    WHERE x.dialog_id = r.dialog_id AND x.member AND x.principal_id > $3
    ORDER BY x.principal_id LIMIT $4) o
"""

_PEERS = f"""
SELECT o.principal_id
FROM members m JOIN heads h ON h.dialog_id = m.dialog_id AND h.type = {DialogType.DIRECT}
JOIN members o ON o.dialog_id = m.dialog_id AND o.principal_id <> m.principal_id
WHERE m.principal_id = $1 AND o.principal_id = ANY ($2)
  AND NOT EXISTS (SELECT 1 FROM blocks b WHERE b.blocked_id = m.principal_id AND b.blocker_id = o.principal_id)
  AND NOT EXISTS (SELECT 1 FROM blocks b WHERE b.blocked_id = o.principal_id AND b.blocker_id = m.principal_id)
"""


class PostgresTimelines(Timelines):
    """The read half, over a pool of connections."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def take_snapshot(
        self, principal: bytes, sign_in: bytes, since: int | None, *, window: int, events_max: int
    ) -> Snapshot:
        rows = await self._fetch(_SNAPSHOT, principal, sign_in, since, window, events_max)
        dialogs = tuple(_dialog(row) for row in rows if row["dialog_id"] is not None)
        missed = sum(dialog.head_seq - dialog.unseen_from + 1 for dialog in dialogs)
        if since is not None and (missed > events_max or since > rows[0]["next_xid"]):
            return await self.take_snapshot(principal, sign_in, None, window=window, events_max=events_max)
        return Snapshot(
            sign_in=SignInState(rows[0]["state"]),
            epoch=rows[0]["epoch"],
            horizon=rows[0]["horizon"],
            recovered=since is not None,
            dialogs=dialogs,
        )

    async def read_dialogs(self, principal: bytes, dialogs: Sequence[bytes]) -> list[DialogRow]:
        return [_dialog(row) for row in await self._fetch(_DIALOGS, principal, dialogs)]

    async def read_events(
        self, principal: bytes, ranges: Sequence[tuple[bytes, int, int]], *, limit: int
    ) -> list[TimelineEventRaw]:
        dialogs, firsts, lasts = zip(*ranges, strict=True)
        return _journal(await self._fetch(_EVENTS, principal, dialogs, firsts, lasts, limit))

    async def read_newest(
        self, principal: bytes, dialog: bytes, from_seq: int, to_seq: int, *, limit: int
    ) -> list[TimelineEventRaw]:
        return _journal(await self._fetch(_NEWEST, principal, dialog, from_seq, to_seq, limit))

    async def read_later(
        self, principal: bytes, dialog: bytes, first: int, last: int, *, limit: int
    ) -> list[TimelineEventRaw]:
        return _journal(await self._fetch(_LATER, principal, dialog, first, last, limit))

    async def read_roster(self, dialog: bytes) -> DialogRoster:
        rows = await self._fetch(_ROSTER, dialog)
        if not rows:
            return DialogRoster(DialogType.SELF, 0, {})
        members = {who: first for _, _, who, first in rows if who is not None}
        return DialogRoster(DialogType(rows[0][0]), rows[0][1], members)

    async def read_members(
        self, principal: bytes, dialogs: Sequence[bytes], *, after: bytes, limit: int
    ) -> dict[bytes, list[Member]]:
        found: dict[bytes, list[Member]] = {}
        for dialog, who, role, name, delivered, read in await self._fetch(_MEMBERS, principal, dialogs, after, limit):
            found.setdefault(dialog, []).append(Member(who, Role(role), name, delivered, read))
        return found

    async def find_direct_peers(self, principal: bytes, of: Sequence[bytes]) -> set[bytes]:
        return {row[0] for row in await self._fetch(_PEERS, principal, of)}

    async def _fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        async with translate_errors():
            rows: list[asyncpg.Record] = await self._pool.fetch(query, *arguments)
        return rows


def _look(row: asyncpg.Record) -> DialogCreated | SettingsChanged:
    """Name and settings, as far as the asker may know them."""
    if row["known"] is not None:
        known: DialogCreated | SettingsChanged = _decode_known(row["known"])
        return known
    settings = Settings(
        row["is_public"],
        row["allow_media"],
        row["message_retention_days"],
        row["moderation_enabled"],
    )
    return SettingsChanged(row["name"], row["description"], row["avatar_url"], settings)


def _dialog(row: asyncpg.Record) -> DialogRow:
    look = _look(row)
    member = row["member"]
    visible = [(part.lower, part.upper - 1 if part.upper else 0) for part in row["visible"]]
    state = DialogState(
        dialog=row["dialog_id"],
        type=DialogType(row["type"]),
        mode=Mode(row["mode"]),
        name=look.name,
        description=look.description,
        avatar_url=look.avatar_url,
        settings=look.settings,
        role=Role(row["role"]),
        member=member,
        seq=row["seq"] if member else max((last for _, last in visible), default=0),
        messages=row["messages"],
        keys_seq=row["keys_seq"] if member else 0,
        member_count=row["member_count"] if member else 0,
        first_seq=0,
        visible=visible,
        delivered=row["delivered"],
        read=row["read"],
        read_messages=row["read_messages"],
        muted_until_ms=row["muted_until_ms"],
        **({name: row[name] for name in _EXTRAS} if member else {}),
    )
    return DialogRow(state, row["seq"], row["unseen_from"])


def _journal(rows: list[asyncpg.Record]) -> list[TimelineEventRaw]:
    return [
        TimelineEventRaw(dialog, seq, author, device, n, at_ms, messages, msgspec.Raw(body))
        for dialog, seq, author, device, n, at_ms, messages, body in rows
    ]
