"""Reads: pages of history and of rosters, of dialogs one is or was in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protocol.codec import HistoryPageRaw
from protocol.commands import History, Roster
from protocol.errors import ErrorCode
from protocol.replies import RosterPage
from server.delivery.rows_to_wire import member, timeline_event
from server.session.refusals import RefusedError
from storage.rows import JournalRow
from storage.timelines import cut_short

if TYPE_CHECKING:
    from server.session.session import Session

_LATER_MAX = 1000
"""Edits, deletions and reactions with one page; of a single message with more, the newest."""


async def history(session: Session, command: History) -> None:
    """A page of a timeline, with all that came later about its messages: a shorter page, if that is too much."""
    assert session.claims is not None
    principal, timelines = session.claims.principal, session.services.timelines
    dialog, limit = command.dialog, command.limit
    if not await timelines.dialog(principal, [dialog]):
        raise RefusedError(ErrorCode.DIALOG_NOT_FOUND)
    if command.newest_first:
        rows = await timelines.newest_events(principal, dialog, command.from_seq, command.to_seq, limit=limit + 1)
    else:
        rows = await timelines.events(principal, [(dialog, command.from_seq, command.to_seq)], limit=limit + 1)
    more = len(rows) > limit
    if more:
        rows = _kept(rows, limit, newest=command.newest_first)
    elif cut_short(rows):
        more = rows[0].seq > command.from_seq if command.newest_first else rows[-1].seq < command.to_seq
    later: list[JournalRow] = []
    while rows:
        later = await timelines.later_events(principal, dialog, rows[0].seq, rows[-1].seq, limit=_LATER_MAX + 1)
        if len(rows) == 1 or not (len(later) > _LATER_MAX or cut_short(later)):
            break
        rows, more = _kept(rows, len(rows) // 2, newest=command.newest_first), True
    session.push(
        HistoryPageRaw(
            command.id, dialog, [timeline_event(row) for row in rows], [timeline_event(row) for row in later], more
        )
    )


def _kept(rows: list[JournalRow], count: int, *, newest: bool) -> list[JournalRow]:
    """As many rows as are to stay, from the end that was asked for."""
    return rows[-count:] if newest else rows[:count]


async def roster(session: Session, command: Roster) -> None:
    """A page of the members of a dialog that one is in."""
    assert session.claims is not None
    found = await session.services.timelines.members(
        session.claims.principal, [command.dialog], after=command.after, limit=command.limit + 1
    )
    rows = found.get(command.dialog)
    if rows is None:
        if not await session.services.timelines.dialog(session.claims.principal, [command.dialog]):
            raise RefusedError(ErrorCode.DIALOG_NOT_FOUND)
        rows = []
    page = [member(row) for row in rows[: command.limit]]
    session.push(RosterPage(command.id, command.dialog, page, len(rows) > command.limit))
