"""Signals, which are state or ephemeral and never in a timeline: receipts, typing, presence."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from protocol.commands import PresenceSubscribe, Receipt, Typing
from protocol.dialog_types import DIALOG_TYPES, DialogType
from protocol.errors import ErrorCode
from protocol.events import TypingChanged
from protocol.limits import STATE_MEMBERS_MAX
from server.delivery.prepared_message import PreparedMessage
from server.delivery.presence import Presence
from server.delivery.receipts import Receipts
from server.delivery.rooms import Rooms
from server.refusals import RETRY_AFTER_S, RequestRefusedError
from server.session.session import Session
from storage.timelines import Timelines


class Signals:
    """Handlers of the commands that append nothing; `tell_typing` shows it at other nodes.

    `find_online` says who of some people is connected to other nodes, and to which.
    """

    def __init__(
        self,
        timelines: Timelines,
        rooms: Rooms,
        receipts: Receipts,
        presence: Presence,
        *,
        tell_typing: Callable[[Iterable[bytes], TypingChanged], None] | None = None,
        find_online: Callable[[Iterable[bytes]], Awaitable[dict[bytes, list[int]]]] | None = None,
    ) -> None:
        self._timelines = timelines
        self._rooms = rooms
        self._receipts = receipts
        self._presence = presence
        self._tell_typing = tell_typing
        self._find_online = find_online

    def receipt(self, session: Session, command: Receipt) -> Awaitable[None] | None:
        """Note how far one has received and read; stored and delivered within a second or so.

        The store drops high-water marks of dialogs that one is not in. Only a command with an `id` learns of it.
        """
        if command.id:
            return self._note_receipt(session, command)
        self._receipts.note(session.principal, command.high_water)
        return None

    async def typing(self, session: Session, command: Typing) -> None:
        """Show the other members that one is writing."""
        me, dialog = session.principal, command.dialog
        await self._check_member(dialog, me)
        room = await self._rooms.open(dialog)
        if me not in room.members:
            raise RequestRefusedError(ErrorCode.DIALOG_NOT_FOUND)
        if room.type is DialogType.DIRECT and not await self._timelines.find_direct_peers(me, list(room.members)):
            raise RequestRefusedError(ErrorCode.BLOCKED)
        if DIALOG_TYPES[room.type].typing and len(room.members) <= STATE_MEMBERS_MAX:
            shown = TypingChanged(dialog, me, command.active)
            self._rooms.deliver_ephemeral(dialog, PreparedMessage(shown), but=me)
            if self._tell_typing is not None:
                self._tell_typing(room.members, shown)
        session.done(command.id)

    async def presence_subscribe(self, session: Session, command: PresenceSubscribe) -> None:
        """Follow the presence of people one shares a direct dialog with; others are left out silently."""
        peers = await self._timelines.find_direct_peers(session.principal, command.principals)
        session.done(command.id)
        self._presence.follow(session, frozenset(peers))
        if self._find_online is not None:
            for principal, nodes in (await self._find_online(peers)).items():
                self._presence.announce(principal, True, nodes)

    async def _note_receipt(self, session: Session, command: Receipt) -> None:
        await self._check_member(command.high_water.dialog, session.principal)
        if not self._receipts.note(session.principal, command.high_water):
            raise RequestRefusedError(ErrorCode.UNAVAILABLE, retry_after_s=RETRY_AFTER_S)
        session.done(command.id)

    async def _check_member(self, dialog: bytes, me: bytes) -> None:
        """Raise RequestRefusedError for who is no member.

        They always cost one lookup, so that timing does not reveal whether the dialog exists or is in use.
        """
        if self._rooms.knows_member(dialog, me):
            return
        found = await self._timelines.read_dialogs(me, [dialog])
        if not found or not found[0].state.member:
            raise RequestRefusedError(ErrorCode.DIALOG_NOT_FOUND)
