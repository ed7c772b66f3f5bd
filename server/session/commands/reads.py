"""Reads: pages of history and of rosters, of dialogs one is or was in."""

from __future__ import annotations

from protocol.bodies import TimelineEventRaw
from protocol.codec import HistoryPageRaw
from protocol.commands import History, Roster
from protocol.errors import ErrorCode
from protocol.replies import RosterPage
from server.refusals import RequestRefusedError
from server.session.session import Session
from storage.timelines import Timelines, cut_short

_LATER_MAX = 1000
"""Edits, deletions and reactions with one page; of a single message with more, the newest."""


class Reads:
    """Handlers of the commands that only read."""

    def __init__(self, timelines: Timelines) -> None:
        self._timelines = timelines

    async def history(self, session: Session, command: History) -> None:
        """A page of a timeline, with what came later about its messages: a shorter page, if that is too much."""
        principal, dialog = session.principal, command.dialog
        await self._find_dialog(principal, dialog)
        events, more = await self._page(principal, command)
        later: list[TimelineEventRaw] = []
        while events:
            first, last = events[0].seq, events[-1].seq
            later = await self._timelines.read_later(principal, dialog, first, last, limit=_LATER_MAX + 1)
            if len(events) == 1 or not (len(later) > _LATER_MAX or cut_short(later)):
                break
            events, more = _kept(events, len(events) // 2, newest=command.newest_first), True
        session.push(HistoryPageRaw(command.id, dialog, events, later, more))

    async def roster(self, session: Session, command: Roster) -> None:
        """A page of the members of a dialog that one is in."""
        principal, dialog = session.principal, command.dialog
        found = await self._timelines.read_members(principal, [dialog], after=command.after, limit=command.limit + 1)
        members = found.get(dialog)
        if members is None:
            await self._find_dialog(principal, dialog)
            members = []
        session.push(RosterPage(command.id, dialog, members[: command.limit], len(members) > command.limit))

    async def _page(self, principal: bytes, command: History) -> tuple[list[TimelineEventRaw], bool]:
        """The events that were asked for, and whether the range holds more."""
        dialog, first, last, limit = command.dialog, command.from_seq, command.to_seq, command.limit
        if command.newest_first:
            events = await self._timelines.read_newest(principal, dialog, first, last, limit=limit + 1)
        else:
            events = await self._timelines.read_events(principal, [(dialog, first, last)], limit=limit + 1)
        if len(events) > limit:
            return _kept(events, limit, newest=command.newest_first), True
        if cut_short(events):
            return events, events[0].seq > first if command.newest_first else events[-1].seq < last
        return events, False

    async def _find_dialog(self, principal: bytes, dialog: bytes) -> None:
        if not await self._timelines.read_dialogs(principal, [dialog]):
            raise RequestRefusedError(ErrorCode.DIALOG_NOT_FOUND)


def _kept(events: list[TimelineEventRaw], count: int, *, newest: bool) -> list[TimelineEventRaw]:
    """As many events as are to stay, from the end that was asked for."""
    return events[-count:] if newest else events[:count]
