"""The roster of a sealed dialog: as it was when somebody was brought into it, or what has changed since an event."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from protocol.bodies import TimelineEvent
from protocol.errors import ErrorCode
from protocol.key_commands import ReadRosterAt
from protocol.limits import REPLY_BYTES_MAX
from protocol.replies import MemberThen, RosterSnapshot
from server.refusals import RequestRefusedError
from server.session.session import Session
from storage.sealed_rosters import SealedRosters


class RosterHandlers:
    """The handler of `read_roster_at`: for newcomers, and for who has heard only a window of a dialog."""

    def __init__(self, rosters: SealedRosters) -> None:
        self._rosters = rosters

    async def read_roster_at(self, session: Session, command: ReadRosterAt) -> None:
        """A page of it; the members are in the first one."""
        if command.since is not None:
            found = await self._rosters.read_since(session.principal, command.dialog, command.since)
            if found is None:
                raise RequestRefusedError(ErrorCode.DIALOG_NOT_FOUND)
            _push_page(session, RosterSnapshot(command.id, command.dialog), *found)
            return
        then = await self._rosters.read_for_newcomer(session.principal, command.dialog)
        if then is None:
            raise RequestRefusedError(ErrorCode.DIALOG_NOT_FOUND)
        members = [MemberThen(who, each.role, each.joined, each.log) for who, each in sorted(then.members.items())]
        page = RosterSnapshot(command.id, command.dialog, then.keys_seq, members if command.after is None else [])
        _push_page(session, page, [event for event in then.events if event.seq > (command.after or 0)], more=False)


def _push_page(session: Session, page: RosterSnapshot, left: Sequence[TimelineEvent], more: bool) -> None:
    """Send as many of these events with the page as fit; `more`: there are others after them."""
    size = len(session.codec.encode(page))
    events: list[TimelineEvent] = []
    for event in left:
        size += len(session.codec.encode(event)) + 1
        if size > REPLY_BYTES_MAX and (events or page.members):
            break
        events.append(event)
    session.push(msgspec.structs.replace(page, events=events, more=more or len(events) < len(left)))
