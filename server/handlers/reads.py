"""Reads: pages of history and of rosters, of dialogs one is or was in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protocol.codec import HistoryPageRaw
from protocol.commands import History, Roster
from protocol.errors import ErrorCode
from protocol.limits import HISTORY_EVENTS_MAX
from protocol.replies import RosterPage
from server.refusals import RefusedError
from server.wire import happened, member

if TYPE_CHECKING:
    from server.session import Session


async def history(session: Session, command: History) -> None:
    """A page of a timeline, with what came later about its messages."""
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
        rows = rows[1:] if command.newest_first else rows[:-1]
    later = (
        await timelines.later_events(principal, dialog, rows[0].seq, rows[-1].seq, limit=HISTORY_EVENTS_MAX)
        if rows
        else []
    )
    session.push(
        HistoryPageRaw(command.id, dialog, [happened(row) for row in rows], [happened(row) for row in later], more)
    )


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
