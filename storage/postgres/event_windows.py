"""Windows of timelines: the visible events of several dialogs from a number on, and the SQL of every read of events.

Pages that few events fill, and that are asked for at the same moment, are one statement. It is no larger than one page
may be: it ends early at `PAGE_BYTES_MAX`, and whose page that cuts is read again, with those after it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import takewhile

import asyncpg
import msgspec

from protocol.bodies import Edited, Erased, Reacted, TimelineEventRaw
from storage.postgres.dialog_states import tags_of
from storage.postgres.gathered_reads import GatheredReads
from storage.rows import BLANK
from storage.timelines import PAGE_BYTES_MAX, cut_short

_GATHERED_EVENTS_MAX = 100
"""Of one page: a larger one is a statement of its own, so that nobody waits for it."""
_GATHERED_MAX = 16
_CROWD = 8

TIMELINE = f"""(
    SELECT j.dialog_id, j.seq, j.author_id, j.device_id, j.n, j.tag, j.target, j.at_ms, j.messages,
           j.incarnation, j.xid, e.hangs_on_erased,
           CASE WHEN e.hangs_on_erased THEN '\\x{bytes(BLANK).hex()}'::bytea ELSE j.body END AS body
    FROM journal j CROSS JOIN LATERAL (
        SELECT j.tag IN ({tags_of(Edited, Reacted)}) AND coalesce((
            SELECT t.tag = {tags_of(Erased)} FROM journal t WHERE t.dialog_id = j.dialog_id AND t.seq = j.target
        ), false) AS hangs_on_erased) e)"""
"""The rows of the journal as they are read: an edit or a reaction of an erased message counts as erased from the moment
of the erasure, though its own row is blanked only later. For other rows nothing is looked up. (EXISTS could be planned
as one look at the whole journal.) Every read of events is FROM this, but what is read with the messages of a page
(`timelines.py`): it leaves such rows out, and looks once at each message."""

ROW_COLUMNS = "j.dialog_id, j.seq, j.author_id, j.device_id, j.n, j.at_ms, j.messages, j.body"


def bytes_before(order: str) -> str:
    """Bytes of the rows before a row in a page, which are known without reading the bodies."""
    rows = "ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING"
    return f"coalesce(sum(octet_length(j.body)) OVER (ORDER BY {order} {rows}), 0)"


# The visible parts of what was asked for, each range cut to $1 numbers. Every number of a timeline is there, so the
# numbers before a part are counted, not looked up: rows that the asker may not see are never read.
_EVENTS = f"""
SELECT {ROW_COLUMNS}, j.ord FROM (
    SELECT {ROW_COLUMNS}, v.ord, {bytes_before("v.ord, j.seq")} AS before
    FROM (
        SELECT r.dialog_id, r.ord, lower(p.part) AS first, upper(p.part) - 1 AS last,
               coalesce(sum(upper(p.part) - lower(p.part)) OVER (
                   PARTITION BY r.ord ORDER BY lower(p.part)
                   ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)::bigint AS counted
        FROM unnest($2::uuid[], $3::uuid[], $4::text::bigint[], $5::text::bigint[])
            WITH ORDINALITY AS r(principal_id, dialog_id, first, last, ord)
        JOIN members m ON m.dialog_id = r.dialog_id AND m.principal_id = r.principal_id
        CROSS JOIN unnest(m.visible * int8multirange(int8range(r.first, greatest(r.last + 1, r.first)))) AS p(part)
    ) v
    CROSS JOIN LATERAL (
        SELECT * FROM {TIMELINE} x
        WHERE x.dialog_id = v.dialog_id AND x.seq >= v.first
          AND x.seq <= least(v.last, v.first + $1 - v.counted - 1)
        ORDER BY x.seq LIMIT $1) j
    WHERE v.counted < $1) j
WHERE j.before < {PAGE_BYTES_MAX}
ORDER BY j.ord, j.seq
"""

Ranges = Sequence[tuple[bytes, int, int]]
"""Of dialogs, each from a number to a number."""
_Asked = tuple[bytes, Ranges, int]
"""Who asks for a page, for which ranges, and for how many events at most of each."""


class EventWindows:
    """Reads pages of events with `fetch`, which runs a statement."""

    def __init__(self, fetch: Callable[..., Awaitable[list[asyncpg.Record]]]) -> None:
        self._fetch = fetch
        self._gathered = GatheredReads(self._read_all, size_max=_GATHERED_MAX, crowd=_CROWD)

    async def read(self, principal: bytes, ranges: Ranges, *, limit: int) -> list[TimelineEventRaw]:
        """Visible events of the ranges, as `Timelines.read_events` says."""
        asked = (principal, ranges, limit)
        if sum(min(last - first + 1, limit) for _, first, last in ranges if first <= last) <= _GATHERED_EVENTS_MAX:
            return await self._gathered.read(asked)
        return (await self._read_all([asked]))[0]

    async def _read_all(self, asked: Sequence[_Asked]) -> list[list[TimelineEventRaw]]:
        pages: list[list[TimelineEventRaw]] = []
        while len(pages) < len(asked):
            pages += await self._read_first(asked[len(pages) :])
        return pages

    async def _read_first(self, asked: Sequence[_Asked]) -> list[list[TimelineEventRaw]]:
        """The pages of as many as one statement has whole; that of the first always is. They have one limit."""
        limit = asked[0][2]
        asked = list(takewhile(lambda each: each[2] == limit, asked))
        each = [(nth, principal, *span) for nth, (principal, ranges, _) in enumerate(asked) for span in ranges]
        asker_of, principals, dialogs, firsts, lasts = zip(*each, strict=True)
        rows = await self._fetch(_EVENTS, limit, principals, dialogs, _as_text(firsts), _as_text(lasts))
        events = make_events(rows)
        pages: list[list[TimelineEventRaw]] = [[] for _ in asked]
        for row, event in zip(rows, events, strict=True):
            pages[asker_of[row[-1] - 1]].append(event)
        return pages[: max(asker_of[rows[-1][-1] - 1], 1)] if cut_short(events) else pages


def _as_text(numbers: Iterable[int]) -> str:
    """An array of numbers as PostgreSQL reads it: the driver takes 0.5 µs for each number of a list, this a tenth."""
    return f"{{{','.join(map(str, numbers))}}}"


def make_events(rows: Iterable[asyncpg.Record]) -> list[TimelineEventRaw]:
    """The events of rows that begin with `ROW_COLUMNS`; a body is the bytes that are stored."""
    return [
        TimelineEventRaw(dialog, seq, author, device, n, at_ms, messages, msgspec.Raw(body))
        for dialog, seq, author, device, n, at_ms, messages, body, *_ in rows
    ]
