"""Signals, which are state or ephemeral and never in a timeline: receipts, typing, presence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protocol.commands import PresenceSubscribe, Receipt, Typing
from protocol.dialog_types import DIALOG_TYPES, DialogType
from protocol.errors import ErrorCode
from protocol.events import TypingChanged
from protocol.limits import STATE_MEMBERS_MAX
from protocol.replies import Done
from server.delivery.prepared_message import PreparedMessage
from server.session.refusals import RefusedError

if TYPE_CHECKING:
    from server.session.session import Session


def receipt(session: Session, command: Receipt) -> None:
    """Note how far one has received and read; stored and told within a second or so."""
    assert session.claims is not None
    if not session.services.receipts.note(session.claims.principal, command.mark):
        session.fail(command.id, ErrorCode.UNAVAILABLE, retry_after_s=1.0)
    elif command.id:
        session.push(Done(command.id))


async def typing(session: Session, command: Typing) -> None:
    """Tell the other members that one is writing."""
    assert session.claims is not None
    me, services = session.claims.principal, session.services
    # A stranger's question is answered by one lookup whether the dialog is there, open, large, or not at all.
    if not services.rooms.has(command.dialog, me):
        found = await services.timelines.dialog(me, [command.dialog])
        if not found or not found[0].member:
            raise RefusedError(ErrorCode.DIALOG_NOT_FOUND)
    room = await services.rooms.open(command.dialog)
    if me not in room.members:
        raise RefusedError(ErrorCode.DIALOG_NOT_FOUND)
    if room.type is DialogType.DIRECT and not await services.timelines.direct_peers(me, list(room.members)):
        raise RefusedError(ErrorCode.BLOCKED)
    if DIALOG_TYPES[room.type].typing and len(room.members) <= STATE_MEMBERS_MAX:
        prepared = PreparedMessage(TypingChanged(command.dialog, me, command.active))
        services.rooms.ephemeral(command.dialog, prepared, but=me)
    if command.id:
        session.push(Done(command.id))


async def presence_subscribe(session: Session, command: PresenceSubscribe) -> None:
    """Follow the presence of people one shares a direct dialog with; others are left out silently."""
    assert session.claims is not None
    peers = await session.services.timelines.direct_peers(session.claims.principal, command.principals)
    session.push(Done(command.id))
    session.services.presence.watch(session, frozenset(peers))
