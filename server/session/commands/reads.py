"""Reads: pages of history and of rosters, of dialogs one is or was in. No page is larger than `REPLY_BYTES_MAX`."""

from __future__ import annotations

import msgspec

from protocol.bodies import TimelineEventRaw
from protocol.codec import Codec, HistoryPageRaw
from protocol.commands import History, Roster
from protocol.dialog_types import Mode
from protocol.errors import ErrorCode
from protocol.limits import REPLY_BYTES_MAX
from protocol.replies import RosterPage
from server.delivery.shared_keys import messages_of
from server.refusals import RequestRefusedError
from server.session.session import Session
from storage.shares import Shares
from storage.timelines import Timelines, cut_short

_PAGE_HEAD_BYTES = 256
"""More than what a page has beside its items, in either codec."""


_SLICES_LOOKED_AT = 96
"""Of so many of the newest keys for a device those of a dialog go before a page of it: most may be on their way. Keys
that are not among them come with their event."""


class Reads:
    """Handlers of the commands that only read."""

    def __init__(self, timelines: Timelines, shares: Shares) -> None:
        self._timelines = timelines
        self._shares = shares

    async def history(self, session: Session, command: History) -> None:
        """A page of a timeline, with what was done later to its messages: a shorter page, if that is too much.

        It may have events that are still on their way to this session, with their keys: those go before the page.
        """
        principal, dialog = session.principal, command.dialog
        mode = await self._find_mode(principal, dialog)
        events, more = await self._page(principal, command)
        page = _HistoryPage(session.codec)
        if events:
            later = await self._timelines.read_later(
                principal, dialog, events[0].seq, events[-1].seq, newest_first=command.newest_first
            )
            for event in reversed(events) if command.newest_first else events:
                fits = later.first <= event.seq <= later.last
                if not fits or not page.add(event, later.events.get(event.seq, [])):
                    more = True
                    break
        if events and mode is Mode.SEALED:
            for message in messages_of(await self._shares.read_newest(session.device, dialog, limit=_SLICES_LOOKED_AT)):
                session.push(message)
        session.push(page.reply(command, more=more))

    async def roster(self, session: Session, command: Roster) -> None:
        """A page of the members of a dialog that one is in."""
        principal, dialog = session.principal, command.dialog
        found = await self._timelines.read_members(principal, [dialog], after=command.after, limit=command.limit + 1)
        members = found.get(dialog)
        if members is None:
            await self._find_mode(principal, dialog)
            members = []
        kept, size = 0, _PAGE_HEAD_BYTES
        for member in members[: command.limit]:
            size += 1 + len(session.codec.encode(member))
            if size > REPLY_BYTES_MAX:
                break
            kept += 1
        session.push(RosterPage(command.id, dialog, members[:kept], len(members) > kept))

    async def _page(self, principal: bytes, command: History) -> tuple[list[TimelineEventRaw], bool]:
        """The events that were asked for, and whether the range holds more."""
        dialog, first, last, limit = command.dialog, command.from_seq, command.to_seq, command.limit
        if command.newest_first:
            events = await self._timelines.read_newest(principal, dialog, first, last, limit=limit + 1)
        else:
            events = await self._timelines.read_events(principal, [(dialog, first, last)], limit=limit + 1)
        if len(events) > limit:
            return events[-limit:] if command.newest_first else events[:limit], True
        if cut_short(events):
            return events, events[0].seq > first if command.newest_first else events[-1].seq < last
        return events, False

    async def _find_mode(self, principal: bytes, dialog: bytes) -> Mode:
        """The mode of a dialog that the principal is or was in."""
        for row in await self._timelines.read_dialogs(principal, [dialog]):
            return row.state.mode
        raise RequestRefusedError(ErrorCode.DIALOG_NOT_FOUND)


class _HistoryPage:
    """A page under construction: message by message, each with what was done to it later."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._size = _PAGE_HEAD_BYTES
        self._events: dict[int, bytes] = {}
        self._later: dict[int, bytes] = {}

    def add(self, event: TimelineEventRaw, later: list[TimelineEventRaw]) -> bool:
        """Add a message if it fits. The first always does, with as much of what was done to it as fits."""
        encoded = self._codec.encode(event)
        size = self._size + len(encoded) + 1
        about: dict[int, bytes] = {}
        for each in later:
            piece = self._codec.encode(each)
            if size + len(piece) >= REPLY_BYTES_MAX and not self._events:
                break
            size += len(piece) + 1
            about[each.seq] = piece
        if size > REPLY_BYTES_MAX:
            return False
        self._size = size
        self._events[event.seq] = encoded
        self._later |= about
        return True

    def reply(self, command: History, *, more: bool) -> HistoryPageRaw:
        """The page as a reply."""
        events, later = (
            [msgspec.Raw(encoded[seq]) for seq in sorted(encoded)] for encoded in (self._events, self._later)
        )
        return HistoryPageRaw(command.id, command.dialog, events, later, more)
