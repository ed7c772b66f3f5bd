"""`SealedRosters` on PostgreSQL: each method is one or two statements over a pool."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from protocol.bodies import LogHead, MembersAdded, TimelineEvent, decode_body
from protocol.dialog_types import Mode, Role
from protocol.limits import ROSTER_EVENTS_MAX, SEALED_MEMBERS_MAX
from protocol.roster import RosterMember
from storage.postgres.functions import STILL
from storage.postgres.pool import Pool, translate_errors
from storage.sealed_rosters import Announcement, RosterThen, SealedRosters

_INTERVALS_READ_MAX = 20_000
"""What has changed in a dialog since somebody joined; a read of so many takes about 20 ms."""

_TURN = """
SELECT a.principal_id, a.after, a.turn, a.again_ms, i.generation, i.length, i.head
FROM (SELECT * FROM log_announcements ORDER BY turn LIMIT 1) a JOIN identities i USING (principal_id)
"""
_DIALOGS = f"""
SELECT m.dialog_id, h.mode = {Mode.SEALED:d} AND NOT h.deleted
       AND ((coalesce(r.generation, 0), coalesce(r.length, 0)) < ($3, $4)
            OR ($6::bigint > 0 AND coalesce((
                SELECT j.at_ms FROM journal j
                WHERE j.dialog_id = m.dialog_id AND j.seq = greatest(h.keys_seq, 1)), 0) < $6)) AS due
FROM members m
JOIN heads h USING (dialog_id)
LEFT JOIN roster_intervals r
    ON r.dialog_id = m.dialog_id AND r.until_seq = {STILL} AND r.principal_id = m.principal_id
WHERE m.principal_id = $1 AND m.dialog_id > $2 AND m.member
ORDER BY m.dialog_id LIMIT $5
"""
_LOOKED = "UPDATE log_announcements SET again_ms = unix_ms() WHERE principal_id = $1 AND turn = $2 RETURNING again_ms"
_GO_ON = "UPDATE log_announcements SET after = $3, turn = DEFAULT WHERE principal_id = $1 AND turn = $2"
_END = "DELETE FROM log_announcements WHERE principal_id = $1 AND turn = $2"

_BROUGHT = """
SELECT m.from_seq, j.body
FROM members m JOIN heads h USING (dialog_id)
LEFT JOIN journal j ON j.dialog_id = m.dialog_id AND j.seq = m.from_seq
WHERE m.dialog_id = $1 AND m.principal_id = $2 AND m.member AND NOT h.deleted
"""
_INTERVALS = f"""
SELECT r.scanned, r.from_seq, r.until_seq, r.principal_id, r.role, r.joined_seq, r.generation, r.length, r.head
FROM (SELECT i.*, count(*) OVER () AS scanned
      FROM (SELECT * FROM roster_intervals x WHERE x.dialog_id = $1 AND x.until_seq > $2
            ORDER BY x.until_seq LIMIT {_INTERVALS_READ_MAX}) i) r
WHERE r.from_seq <= $3
"""
_EDGES_READ_MAX = SEALED_MEMBERS_MAX + 2 * ROSTER_EVENTS_MAX
"""One event begins the intervals of so many members: a page reaches further than one event."""
_IS_MEMBER = "m.dialog_id = $1 AND m.principal_id = $2 AND m.member AND NOT h.deleted"
_SINCE = f"""
SELECT e.seq, e.nth
FROM members m JOIN heads h USING (dialog_id)
CROSS JOIN unnest(m.visible * int8multirange(int8range(greatest($3, 1), {STILL}))) AS p(part)
CROSS JOIN LATERAL (
    SELECT lower(p.part) AS seq, 0 AS nth WHERE lower(p.part) = 1
    UNION ALL
    (SELECT r.from_seq, row_number() OVER (ORDER BY r.from_seq) FROM roster_intervals r
     WHERE r.dialog_id = $1 AND r.from_seq >= lower(p.part) AND r.from_seq < coalesce(upper(p.part), {STILL})
     ORDER BY r.from_seq LIMIT {_EDGES_READ_MAX})
    UNION ALL
    (SELECT r.until_seq, row_number() OVER (ORDER BY r.until_seq) FROM roster_intervals r
     WHERE r.dialog_id = $1 AND r.until_seq >= lower(p.part) AND r.until_seq < coalesce(upper(p.part), {STILL})
     ORDER BY r.until_seq LIMIT {_EDGES_READ_MAX})) e
WHERE {_IS_MEMBER}
"""
_EXISTS = f"SELECT true FROM members m JOIN heads h USING (dialog_id) WHERE {_IS_MEMBER}"
_EVENTS = """
SELECT j.dialog_id, j.seq, j.author_id, j.device_id, j.n, j.at_ms, j.messages, j.body
FROM journal j WHERE j.dialog_id = $1 AND j.seq = ANY ($2) ORDER BY j.seq
"""


class PostgresSealedRosters(SealedRosters):
    """Rosters, over a pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def next_announcement(self, *, limit: int) -> Announcement | None:
        async with translate_errors():
            found = await self._pool.fetchrow(_TURN)
            if found is None:
                return None
            principal, after, turn, again_ms, *log = found
            if again_ms == 0:
                again_ms = await self._pool.fetchval(_LOOKED, principal, turn)
            rows = await self._pool.fetch(_DIALOGS, principal, after, *log[:2], limit, again_ms or 0)
        return Announcement(
            principal,
            LogHead(*log),
            tuple(dialog for dialog, due in rows if due),
            after,
            rows[-1][0] if rows else after,
            len(rows) < limit,
            turn,
        )

    async def note_announced(self, announcement: Announcement, reached: bytes | None) -> None:
        which = (announcement.principal, announcement.turn)
        async with translate_errors():
            if reached is None:
                await self._pool.execute(_END, *which)
            else:
                await self._pool.execute(_GO_ON, *which, reached)

    async def read_since(self, principal: bytes, dialog: bytes, since: int) -> tuple[list[TimelineEvent], bool] | None:
        async with translate_errors():
            edges = await self._pool.fetch(_SINCE, dialog, principal, since)
            if not edges and not await self._pool.fetchval(_EXISTS, dialog, principal):
                return None
            # Where one of the reads has ended early, what comes after it may be missing.
            whole = min((seq for seq, nth in edges if nth == _EDGES_READ_MAX), default=STILL)
            changes = sorted({seq for seq, _ in edges if seq <= whole})
            page = changes[:ROSTER_EVENTS_MAX]
            rows = await self._pool.fetch(_EVENTS, dialog, page)
        return [_event(row) for row in rows], whole < STILL or len(page) < len(changes)

    async def read_for_newcomer(self, principal: bytes, dialog: bytes) -> RosterThen | None:
        async with translate_errors():
            found = await self._pool.fetchrow(_BROUGHT, dialog, principal)
            if found is None:
                return None
            joined, body = found
            keys_seq = None if body is None else _signed_keys_seq(body)
            if keys_seq is None:
                return RosterThen()
            first = max(keys_seq, 1)  # `keys_seq` is 0 after the creation, too
            rows = await self._pool.fetch(_INTERVALS, dialog, first, joined)
            changes = {seq for row in rows for seq in (row["from_seq"], row["until_seq"]) if first < seq <= joined}
            if len(changes) > ROSTER_EVENTS_MAX or any(row["scanned"] >= _INTERVALS_READ_MAX for row in rows[:1]):
                return RosterThen()
            events = await self._pool.fetch(_EVENTS, dialog, sorted(changes))
        return RosterThen(keys_seq, _members(rows, first), tuple(_event(row) for row in events))


def _signed_keys_seq(body: bytes) -> int | None:
    """What is signed in the event that brought somebody; None: nothing is."""
    added = decode_body(body)
    if not isinstance(added, MembersAdded):
        return None
    signed = added.signed if added.invitation is None else added.invitation.signed
    return None if signed is None else signed.keys_seq


def _members(rows: Sequence[asyncpg.Record], seq: int) -> dict[bytes, RosterMember]:
    then = (row for row in rows if row["from_seq"] <= seq)
    return {
        row["principal_id"]: RosterMember(
            Role(row["role"]), row["joined_seq"], LogHead(row["generation"], row["length"], row["head"])
        )
        for row in then
    }


def _event(row: asyncpg.Record) -> TimelineEvent:
    dialog, seq, author, device, n, at_ms, messages, body = row
    return TimelineEvent(dialog, seq, author, device, n, at_ms, messages, decode_body(body))
