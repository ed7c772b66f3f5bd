"""Signals, which are state or ephemeral and never in a timeline: receipts, typing, presence."""

from __future__ import annotations

from protocol.commands import PresenceSubscribe, Receipt, Typing
from protocol.dialog_types import DIALOG_TYPES, DialogType
from protocol.errors import ErrorCode
from protocol.events import TypingChanged
from protocol.limits import STATE_MEMBERS_MAX
from protocol.replies import Done
from server.delivery.prepared_message import PreparedMessage
from server.delivery.presence import Presence
from server.delivery.receipts import Receipts
from server.delivery.rooms import Rooms
from server.refusals import RequestRefusedError
from server.session.session import Session
from storage.timelines import Timelines


class Signals:
    """Handlers of the commands that append nothing."""

    def __init__(self, timelines: Timelines, rooms: Rooms, receipts: Receipts, presence: Presence) -> None:
        self._timelines = timelines
        self._rooms = rooms
        self._receipts = receipts
        self._presence = presence

    def receipt(self, session: Session, command: Receipt) -> None:
        """Note how far one has received and read; stored and delivered within a second or so."""
        if not self._receipts.note(session.principal, command.high_water):
            session.fail(command.id, ErrorCode.UNAVAILABLE, retry_after_s=1.0)
        elif command.id:
            session.push(Done(command.id))

    async def typing(self, session: Session, command: Typing) -> None:
        """Show the other members that one is writing."""
        me, dialog = session.principal, command.dialog
        # A non-member always costs one lookup, so that timing does not reveal whether the dialog exists or is in use.
        if not self._rooms.knows_member(dialog, me):
            found = await self._timelines.read_dialogs(me, [dialog])
            if not found or not found[0].state.member:
                raise RequestRefusedError(ErrorCode.DIALOG_NOT_FOUND)
        room = await self._rooms.open(dialog)
        if me not in room.members:
            raise RequestRefusedError(ErrorCode.DIALOG_NOT_FOUND)
        if room.type is DialogType.DIRECT and not await self._timelines.find_direct_peers(me, list(room.members)):
            raise RequestRefusedError(ErrorCode.BLOCKED)
        if DIALOG_TYPES[room.type].typing and len(room.members) <= STATE_MEMBERS_MAX:
            prepared = PreparedMessage(TypingChanged(dialog, me, command.active))
            self._rooms.deliver_ephemeral(dialog, prepared, but=me)
        if command.id:
            session.push(Done(command.id))

    async def presence_subscribe(self, session: Session, command: PresenceSubscribe) -> None:
        """Follow the presence of people one shares a direct dialog with; others are left out silently."""
        peers = await self._timelines.find_direct_peers(session.principal, command.principals)
        session.push(Done(command.id))
        self._presence.follow(session, frozenset(peers))
