"""`Timelines` on PostgreSQL: with the embedded engine the journal is the whole timeline."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import asyncpg

from protocol.bodies import (
    Deleted,
    Edited,
    Erased,
    MemberLeft,
    MemberRemoved,
    Reacted,
    TimelineEventRaw,
    decode_body,
    tag_of,
)
from protocol.dialog_types import DialogType, Role
from protocol.ids import direct_dialog_id
from protocol.limits import REACTIONS_PER_MESSAGE_MAX
from protocol.replies import Member
from storage.postgres.dialog_states import (
    DIALOGS,
    SNAPSHOT_PAGE,
    SNAPSHOTS,
    count_missed,
    make_dialog_row,
    make_snapshot_page,
    tags_of,
)
from storage.postgres.event_windows import ROW_COLUMNS, TIMELINE, EventWindows, bytes_before, make_events
from storage.postgres.gathered_reads import GatheredReads
from storage.postgres.pool import Pool, translate_errors
from storage.rows import DialogRoster, DialogRow, KeysHeld, Later, SignInState, Snapshot, SnapshotPage
from storage.timelines import PAGE_BYTES_MAX, Timelines, cut_short
from storage.unavailable import StorageTimeoutError

_RESUME_TIMEOUT_S = 2.0
"""Longest time to find out what a position lacks; then the snapshot is windowed."""
SNAPSHOTS_MAX = 32
"""Of one statement: each looks at a page of memberships."""
_SNAPSHOTS_CROWD = 8
LATER_ROWS_MAX = 500
"""Edits, deletions and reactions that are read at once for a page of messages."""

_REACTED = tag_of(Reacted)
ARE_ABOUT_A_MESSAGE = tags_of(Edited, Deleted, Reacted)

_NEWEST = f"""
SELECT {ROW_COLUMNS} FROM (
    SELECT {ROW_COLUMNS}, {bytes_before("j.seq DESC")} AS before
    FROM (
        SELECT m.dialog_id, lower(p.part) AS first, upper(p.part) - 1 AS last,
               coalesce(sum(upper(p.part) - lower(p.part)) OVER (
                   ORDER BY lower(p.part) DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)::bigint AS counted
        FROM members m JOIN heads h ON h.dialog_id = m.dialog_id
        CROSS JOIN unnest(m.visible * int8multirange(int8range($3, greatest(least($4, h.seq) + 1, $3)))) AS p(part)
        WHERE m.dialog_id = $2 AND m.principal_id = $1
    ) v
    CROSS JOIN LATERAL (
        SELECT * FROM {TIMELINE} x
        WHERE x.dialog_id = v.dialog_id AND x.seq <= v.last AND x.seq >= greatest(v.first, v.last - $5 + v.counted + 1)
        ORDER BY x.seq DESC LIMIT $5) j
    WHERE v.counted < $5) j
WHERE j.before < {PAGE_BYTES_MAX}
ORDER BY j.seq
"""

_VISIBLE_BY_TARGET = "m.visible @> j.target AND int8range(1, upper(m.visible)) @> j.seq"
"""What was done to a message concerns those who may see the message, and were away meanwhile and have returned, too."""


def _later(order: str) -> str:
    """What was done to the messages of a page, message by message in this order; without what the page itself has."""
    ordered = f"j.target {order}, j.seq {order}"
    return f"""
WITH looked_at AS MATERIALIZED (
    SELECT * FROM journal j
    WHERE j.dialog_id = $2 AND j.tag IN ({ARE_ABOUT_A_MESSAGE}) AND j.target BETWEEN $3 AND $4
    ORDER BY {ordered} LIMIT {LATER_ROWS_MAX + 1}
), erased AS MATERIALIZED (
    SELECT t.seq FROM (SELECT DISTINCT target FROM looked_at) l
    JOIN journal t ON t.dialog_id = $2 AND t.seq = l.target AND t.tag = {tags_of(Erased)}
)
SELECT {ROW_COLUMNS}, j.tag, j.target, j.shown FROM (
    SELECT {ROW_COLUMNS}, j.tag, j.target, {bytes_before(ordered)} AS before,
           {_VISIBLE_BY_TARGET} AND NOT (j.seq <= $4 AND m.visible @> j.seq)
           AND (j.tag = {tags_of(Deleted)} OR j.target NOT IN (SELECT seq FROM erased)) AS shown
    FROM looked_at j JOIN members m ON m.dialog_id = $2 AND m.principal_id = $1) j
WHERE j.before < {PAGE_BYTES_MAX}
ORDER BY {ordered}
"""


_LATER = {False: _later("ASC"), True: _later("DESC")}
"""By `newest_first`."""


def _newest_about(tags: str, limit: int) -> str:
    return f"""(
    SELECT * FROM journal x
    WHERE x.dialog_id = m.dialog_id AND x.tag IN ({tags}) AND x.target = $3
      AND x.seq < coalesce(upper(m.visible), {2**63 - 1})
    ORDER BY x.seq DESC LIMIT {limit})"""


_NEWEST_LATER = f"""
SELECT {ROW_COLUMNS}, j.tag, j.target, true AS shown FROM members m CROSS JOIN LATERAL (
    SELECT * FROM {_newest_about(tags_of(Edited), 1)} x
    UNION ALL SELECT * FROM {_newest_about(tags_of(Deleted), 1)} x
    UNION ALL SELECT * FROM (
        SELECT * FROM (
            SELECT DISTINCT ON (r.author_id) r.* FROM {_newest_about(ARE_ABOUT_A_MESSAGE, LATER_ROWS_MAX)} r
            WHERE r.tag = {tags_of(Reacted)} ORDER BY r.author_id, r.seq DESC) r
        ORDER BY r.seq DESC LIMIT {REACTIONS_PER_MESSAGE_MAX}) x
) j
WHERE m.dialog_id = $2 AND m.principal_id = $1 AND {_VISIBLE_BY_TARGET}
  AND (j.tag = {tags_of(Deleted)} OR NOT EXISTS (
      SELECT 1 FROM journal t WHERE t.dialog_id = $2 AND t.seq = $3 AND t.tag = {tags_of(Erased)}))
"""

MISSED_LOOKED_AT_MAX = 2000
"""Events of a time in which a member was away that are looked through for what concerns that member."""

_MISSED = f"""
SELECT {ROW_COLUMNS}, j.shown FROM (
    SELECT j.dialog_id, j.seq, j.author_id, j.device_id, j.n, j.at_ms, j.messages, j.shown,
           CASE WHEN j.shown AND sum(octet_length(j.body)) FILTER (WHERE j.shown) OVER (ORDER BY j.seq)
                             < {PAGE_BYTES_MAX} THEN j.body END AS body
    FROM (
        SELECT j.*, NOT m.visible @> j.seq AND {_VISIBLE_BY_TARGET} AND NOT j.hangs_on_erased AS shown
        FROM (SELECT * FROM {TIMELINE} x
              WHERE x.dialog_id = $2 AND x.seq > $3 AND x.seq < $4 AND x.tag IN ({ARE_ABOUT_A_MESSAGE})
              ORDER BY x.seq) j
        JOIN members m ON m.dialog_id = j.dialog_id AND m.principal_id = $1) j) j
ORDER BY j.seq
"""

# What is newer than all that has left is held whole.
HELD_FROM = """CASE WHEN t.newest = '0' THEN 1
    ELSE first_unseen(h.dialog_id, h.seq, (t.newest::text::bigint + 1)::text::xid8) END"""
_HELD = f"SELECT h.dialog_id, {HELD_FROM} FROM heads h CROSS JOIN trimming t WHERE h.dialog_id = ANY ($1)"

_ROSTER = """
SELECT h.type, h.roster_seq, m.principal_id, m.from_seq
FROM heads h LEFT JOIN members m ON m.dialog_id = h.dialog_id AND m.member
WHERE h.dialog_id = $1
"""

_REMOVED = f"""
SELECT j.seq, j.author_id, j.body FROM journal j
WHERE j.dialog_id = $1 AND j.seq > $2 AND j.seq <= $3 AND j.tag IN ({tag_of(MemberRemoved)}, {tag_of(MemberLeft)})
ORDER BY j.seq
"""

# A pair in which true is the greatest: only `members_present` has it, so no plan passes over those who have left.
_MEMBERS = """
SELECT r.dialog_id, o.principal_id, o.role, o.name, o.delivered, o.read
FROM unnest($2::uuid[]) AS r(dialog_id)
JOIN members m ON m.dialog_id = r.dialog_id AND m.principal_id = $1 AND m.member
CROSS JOIN LATERAL (
    SELECT x.principal_id, x.role, coalesce(p.display_name, '') AS name, x.delivered, x.read
    FROM members x LEFT JOIN people p ON p.principal_id = x.principal_id
    WHERE x.dialog_id = r.dialog_id AND x.member AND (x.member, x.principal_id) > (true, $3)
    ORDER BY x.member, x.principal_id LIMIT $4) o
"""

_PEERS = f"""
SELECT r.peer
FROM unnest($2::uuid[], $3::uuid[]) AS r(peer, dialog_id)
JOIN heads h ON h.dialog_id = r.dialog_id AND h.type = {DialogType.DIRECT}
JOIN members m ON m.dialog_id = r.dialog_id AND m.principal_id = $1
JOIN members o ON o.dialog_id = r.dialog_id AND o.principal_id = r.peer
WHERE NOT EXISTS (SELECT 1 FROM blocks b WHERE b.blocked_id = $1 AND b.blocker_id = r.peer)
  AND NOT EXISTS (SELECT 1 FROM blocks b WHERE b.blocked_id = r.peer AND b.blocker_id = $1)
"""


_Asked = tuple[bytes, bytes, int | None, int]
"""Who asks for a snapshot: principal, sign-in, the horizon of the position, and the events of a window."""


class PostgresTimelines(Timelines):
    """The read half, over a pool of connections, of which at most `pages_at_once` are used to read pages.

    Who asks for a page waits in line, so that a roster for the fan-out, or a look at one dialog, never waits for pages.
    Snapshots that are asked for at the same moment are one statement, and so are small pages of events.
    """

    def __init__(self, pool: Pool, *, pages_at_once: int = 4) -> None:
        self._pool = pool
        self._pages = asyncio.Semaphore(pages_at_once)
        self._snapshots = GatheredReads(self._take_snapshots, size_max=SNAPSHOTS_MAX, crowd=_SNAPSHOTS_CROWD)
        self._windows = EventWindows(self._fetch_page)

    async def take_snapshot(
        self, principal: bytes, sign_in: bytes, since: int | None, *, window: int, events_max: int
    ) -> Snapshot:
        rows = await self._snapshots.read((principal, sign_in, since, window))
        first = rows[0]
        page = make_snapshot_page(rows, since, window)
        if since is not None and (
            not first["newest_trimmed"] < since <= first["next_xid"]
            or not await self._affords(principal, page, events_max)
        ):
            return await self.take_snapshot(principal, sign_in, None, window=window, events_max=events_max)
        return Snapshot(
            sign_in=SignInState(first["state"]),
            epoch=first["epoch"],
            horizon=first["horizon"],
            recovered=since is not None,
            page=page,
            keys=KeysHeld(
                first["n_max"] or 0,
                first["generation"] or 0,
                first["one_time"] or 0,
                bool(first["fallback_used"]),
                bool(first["slices"]),
            ),
        )

    async def _take_snapshots(self, asked: Sequence[_Asked]) -> list[list[asyncpg.Record]]:
        """Of several at once, in one snapshot of the database: the rows of each."""
        principals, sign_ins, sinces, windows = zip(*asked, strict=True)
        found: list[list[asyncpg.Record]] = [[] for _ in asked]
        for row in await self._fetch_page(SNAPSHOTS, principals, sign_ins, sinces, windows):
            found[row["nth"] - 1].append(row)
        return found

    async def read_snapshot_page(self, principal: bytes, page: SnapshotPage) -> SnapshotPage:
        async with self._pages:
            return await self._next_page(principal, page)

    async def _next_page(self, principal: bytes, page: SnapshotPage) -> SnapshotPage:
        rows = await self._fetch(SNAPSHOT_PAGE, principal, page.after, page.since, page.window)
        return make_snapshot_page(rows, page.since, page.window)

    async def _affords(self, principal: bytes, page: SnapshotPage, events_max: int) -> bool:
        """Whether what a position lacks, from this page on, is within the budget of one resume."""
        missed = count_missed(page)
        if page.after is None or missed > events_max:
            return missed <= events_max
        async with self._pages:  # once: the time in line is no part of the budget
            try:
                async with asyncio.timeout(_RESUME_TIMEOUT_S):
                    while missed <= events_max:
                        page = await self._next_page(principal, page)
                        missed += count_missed(page)
                        if page.after is None:
                            break
            except (TimeoutError, StorageTimeoutError):
                return False
        return missed <= events_max

    async def read_dialogs(self, principal: bytes, dialogs: Sequence[bytes]) -> list[DialogRow]:
        return [make_dialog_row(row) for row in await self._fetch(DIALOGS, principal, dialogs)]

    async def read_events(
        self, principal: bytes, ranges: Sequence[tuple[bytes, int, int]], *, limit: int
    ) -> list[TimelineEventRaw]:
        return await self._windows.read(principal, ranges, limit=limit)

    async def read_newest(
        self, principal: bytes, dialog: bytes, from_seq: int, to_seq: int, *, limit: int
    ) -> list[TimelineEventRaw]:
        return make_events(await self._fetch_page(_NEWEST, principal, dialog, from_seq, to_seq, limit))

    async def read_later(self, principal: bytes, dialog: bytes, first: int, last: int, *, newest_first: bool) -> Later:
        rows = await self._fetch_page(_LATER[newest_first], principal, dialog, first, last)
        if len(rows) > LATER_ROWS_MAX or cut_short(make_events(rows)):
            stopped_at = rows[-1]["target"]  # its rows may not be complete
            if stopped_at == (last if newest_first else first):
                first = last = stopped_at
                rows = await self._fetch_page(_NEWEST_LATER, principal, dialog, stopped_at)
            else:
                first, last = (stopped_at + 1, last) if newest_first else (first, stopped_at - 1)
        found: dict[int, list[TimelineEventRaw]] = {}
        rows = sorted(rows, key=lambda row: (row["tag"] == _REACTED, -row["seq"]))
        for row, event in zip(rows, make_events(rows), strict=True):
            if row["shown"] and first <= row["target"] <= last:
                found.setdefault(row["target"], []).append(event)
        return Later(first, last, found)

    async def read_missed(
        self, principal: bytes, dialog: bytes, after: int, before: int, *, limit: int
    ) -> list[TimelineEventRaw] | None:
        if before - after - 1 > MISSED_LOOKED_AT_MAX:
            return None
        rows = await self._fetch_page(_MISSED, principal, dialog, after, before)
        shown = [row for row in rows if row["shown"]]
        if len(shown) > limit or any(row["body"] is None for row in shown):
            return None
        return make_events(shown)

    async def find_held(self, dialogs: Sequence[bytes]) -> dict[bytes, int]:
        return {row[0]: row[1] for row in await self._fetch(_HELD, dialogs)}

    async def read_roster(self, dialog: bytes) -> DialogRoster:
        rows = await self._fetch(_ROSTER, dialog)
        if not rows:
            return DialogRoster(DialogType.SELF, 0, {})
        members = {who: first for _, _, who, first in rows if who is not None}
        return DialogRoster(DialogType(rows[0][0]), rows[0][1], members)

    async def find_removed(self, dialog: bytes, after: int, until: int) -> dict[bytes, int]:
        found = {}
        for seq, author, body in await self._fetch(_REMOVED, dialog, after, until):
            match decode_body(body):
                case MemberRemoved(member=who):
                    found[who] = seq
                case MemberLeft():
                    found[author] = seq
        return found

    async def read_members(
        self, principal: bytes, dialogs: Sequence[bytes], *, after: bytes, limit: int
    ) -> dict[bytes, list[Member]]:
        found: dict[bytes, list[Member]] = {}
        rows = await self._fetch_page(_MEMBERS, principal, dialogs, after, limit)
        for dialog, who, role, name, delivered, read in rows:
            found.setdefault(dialog, []).append(Member(who, Role(role), name, delivered, read))
        return found

    async def find_direct_peers(self, principal: bytes, of: Sequence[bytes]) -> set[bytes]:
        others = [other for other in of if other != principal]
        dialogs = [direct_dialog_id(principal, other) for other in others]
        return {row[0] for row in await self._fetch(_PEERS, principal, others, dialogs)}

    async def _fetch_page(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        async with self._pages:
            return await self._fetch(query, *arguments)

    async def _fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        async with translate_errors():
            rows: list[asyncpg.Record] = await self._pool.fetch(query, *arguments)
        return rows
