"""Catching up: state and events read from the timeline, page by page as the socket drains, until live.

The same for the first sync and for a session that fell behind. Each round sends, for every dialog that is
due, its state and then its events up to the head; what happens meanwhile is held by the outbox, or
noted as missed and due in the next round. The switch to live happens between two turns of nobody else.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from protocol.close_codes import CloseCode
from protocol.events import Live
from protocol.ids import NIL
from protocol.limits import STATE_MEMBERS_MAX
from server.delivery.rows_to_wire import dialog_state, timeline_event, visible_head
from storage.postgres.pool import StorageUnavailableError
from storage.rows import DialogRow, Snapshot
from storage.timelines import cut_short

if TYPE_CHECKING:
    from server.session.session import Session

_log = logging.getLogger(__name__)

_DIALOGS_PER_ROUND = 50


class Plan:
    """What is to be sent first: the dialogs of a snapshot, or nothing but what the outbox missed."""

    def __init__(self, snapshot: Snapshot | None = None) -> None:
        self.due = {row.dialog: row.unseen_from for row in snapshot.dialogs} if snapshot else {}
        self.rows = {row.dialog: row for row in snapshot.dialogs} if snapshot else {}
        self.horizon = snapshot.horizon if snapshot else None


async def run(session: Session, plan: Plan) -> None:
    """Catch up, then go live; a client that cannot be caught up now is asked to come again."""
    try:
        await _catch_up(session, plan)
    except StorageUnavailableError as error:
        _log.warning("a session cannot be caught up and is closed: %s", error)
        session.close(CloseCode.UNAVAILABLE)


async def _catch_up(session: Session, plan: Plan) -> None:
    assert session.claims is not None
    principal = session.claims.principal
    outbox, services = session.outbox, session.services
    due, rows = plan.due, plan.rows
    sent_to: dict[bytes, int] = {}
    while True:
        for start in range(0, len(due), _DIALOGS_PER_ROUND):
            chunk = dict(list(due.items())[start : start + _DIALOGS_PER_ROUND])
            await _send_dialogs(session, principal, chunk, rows, sent_to)
        await session.drained()
        if outbox.overwhelmed:
            session.close(CloseCode.SLOW_CONSUMER)
            return
        if outbox.try_live(sent_to):
            break
        due, rows = outbox.take_missed(), {}
    if plan.horizon is not None:
        session.push(Live(services.horizon.text(plan.horizon, principal)))


async def _send_dialogs(
    session: Session,
    principal: bytes,
    due: dict[bytes, int],
    rows: dict[bytes, DialogRow],
    sent_to: dict[bytes, int],
) -> None:
    timelines = session.services.timelines
    missing = [dialog for dialog in due if dialog not in rows]
    if missing:
        rows = rows | {row.dialog: row for row in await timelines.dialog(principal, missing)}
    shown = [rows[dialog] for dialog in due if dialog in rows]
    small = [row.dialog for row in shown if row.member and row.member_count <= STATE_MEMBERS_MAX]
    members = await timelines.members(principal, small, after=NIL, limit=STATE_MEMBERS_MAX) if small else {}
    ranges: dict[bytes, tuple[int, int]] = {}
    for row in shown:
        session.push(dialog_state(row, members.get(row.dialog, ()), due[row.dialog]))
        ranges[row.dialog] = (due[row.dialog], visible_head(row))
        sent_to[row.dialog] = max(sent_to.get(row.dialog, 0), row.seq)
    await _send_events(session, principal, ranges)


async def _send_events(session: Session, principal: bytes, ranges: dict[bytes, tuple[int, int]]) -> None:
    """The events of several dialogs, each in order, a page at a time."""
    limit = session.services.sync.page_events
    while ranges := {dialog: (first, last) for dialog, (first, last) in ranges.items() if first <= last}:
        await session.drained()
        page = [(dialog, first, last) for dialog, (first, last) in ranges.items()]
        # As many dialogs at once as one page can hold if each is short; a long one takes several turns.
        count = 0
        for index, (_, first, last) in enumerate(page):
            count += min(last - first + 1, limit)
            if count >= limit:
                page = page[: index + 1]
                break
        rows = await session.services.timelines.events(principal, page, limit=limit)
        reached = {row.dialog: row.seq for row in rows}
        sent: dict[bytes, int] = {}
        for row in rows:
            session.push(timeline_event(row))
            sent[row.dialog] = sent.get(row.dialog, 0) + 1
        cut_in = rows[-1].dialog if cut_short(rows) else None
        for dialog, _, last in page:
            if dialog == cut_in or sent.get(dialog, 0) == limit:
                ranges[dialog] = (reached[dialog] + 1, last)
            elif cut_in is None or dialog in reached:
                ranges[dialog] = (last + 1, last)
