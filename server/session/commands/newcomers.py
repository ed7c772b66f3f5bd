"""The roster of a sealed dialog as it was when somebody was brought into it."""

from __future__ import annotations

from protocol.bodies import TimelineEvent
from protocol.errors import ErrorCode
from protocol.key_commands import ReadRosterAt
from protocol.limits import REPLY_BYTES_MAX
from protocol.replies import MemberThen, RosterSnapshot
from server.refusals import RequestRefusedError
from server.session.session import Session
from storage.sealed_rosters import SealedRosters


class Newcomers:
    """The handler of what newcomers ask."""

    def __init__(self, rosters: SealedRosters) -> None:
        self._rosters = rosters

    async def read_roster_at(self, session: Session, command: ReadRosterAt) -> None:
        """A page of it; the members are in the first one."""
        then = await self._rosters.read_for_newcomer(session.principal, command.dialog)
        if then is None:
            raise RequestRefusedError(ErrorCode.DIALOG_NOT_FOUND)
        members = [MemberThen(who, each.role, each.joined, each.log) for who, each in sorted(then.members.items())]
        page = RosterSnapshot(command.id, command.dialog, then.keys_seq, members if command.after is None else [])
        left = [event for event in then.events if event.seq > (command.after or 0)]
        size = len(session.codec.encode(page))
        events: list[TimelineEvent] = []
        for event in left:
            size += len(session.codec.encode(event)) + 1
            if size > REPLY_BYTES_MAX and (events or page.members):
                break
            events.append(event)
        more = len(events) < len(left)
        session.push(RosterSnapshot(command.id, command.dialog, page.keys_seq, page.members, events, more))
