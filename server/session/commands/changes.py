"""Changes: of a roster, of settings, of an older event, of one's own state. Each is one append, answered in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from protocol import bodies
from protocol import commands as c
from protocol.dialog_types import DIALOG_TYPES, DialogType, Role
from protocol.errors import ErrorCode
from protocol.ids import created_dialog_id, direct_dialog_id, self_dialog_id
from protocol.replies import Acked
from server.identity.tokens import Claims
from server.session.refusals import DURABLE, ERROR_OF, RETRY_AFTER_S, RefusedError
from storage.rows import ChangeEntry, Creation, Op

if TYPE_CHECKING:
    from server.session.session import Session

_encode = msgspec.msgpack.Encoder().encode


async def create(session: Session, command: c.Create) -> None:
    """Create a dialog, or return the direct one that exists."""
    claims = _claims(session)
    members = (claims.principal, *(m for m in dict.fromkeys(command.members) if m != claims.principal))
    rule = DIALOG_TYPES[command.type]
    if command.type is DialogType.SELF:
        raise RefusedError(ErrorCode.INVALID_ARGUMENT, "everybody has a `self` dialog already")
    if not rule.members_min <= len(members) <= rule.members_max:
        raise RefusedError(ErrorCode.MEMBERS_BOUND, f"{rule.members_min} to {rule.members_max}, you included")
    if command.type is DialogType.DIRECT:
        dialog = direct_dialog_id(*members)
    else:
        dialog = created_dialog_id(claims.device, command.n)
    creation = Creation(
        type=command.type,
        mode=command.mode or rule.default_mode,
        name=_text("name", command.name, required=rule.named),
        description=_text("description", command.description),
        avatar_url=_text("avatar_url", command.avatar_url),
        settings=command.settings,
    )
    roles = tuple(Role.ADMIN if rule.has_admins and who == claims.principal else Role.MEMBER for who in members)
    body = bodies.DialogCreated(
        creation.type,
        creation.mode,
        creation.name,
        creation.description,
        creation.avatar_url,
        creation.settings,
        [bodies.MemberRole(who, role) for who, role in zip(members, roles, strict=True)],
    )
    entry = _entry(claims, Op.CREATE, dialog, command.n, body, *members)
    await _apply(session, command, msgspec.structs.replace(entry, roles=roles, creation=creation))


async def add(session: Session, command: c.Add) -> None:
    """Add members, or oneself to a public dialog."""
    members = tuple(dict.fromkeys(command.members))
    body = bodies.MembersAdded(list(members))
    await _apply(session, command, _entry(_claims(session), Op.ADD, command.dialog, command.n, body, *members))


async def remove(session: Session, command: c.Remove) -> None:
    """Remove a member."""
    if command.member == _claims(session).principal:
        raise RefusedError(ErrorCode.INVALID_ARGUMENT, "to go yourself, use `leave`")
    await _about_member(session, command, Op.REMOVE, bodies.MemberRemoved(command.member))


async def leave(session: Session, command: c.Leave) -> None:
    """Leave a dialog."""
    entry = _entry(_claims(session), Op.LEAVE, command.dialog, command.n, bodies.MemberLeft())
    await _apply(session, command, entry)


async def promote(session: Session, command: c.Promote) -> None:
    """Make a member an admin."""
    await _about_member(session, command, Op.PROMOTE, bodies.Promoted(command.member))


async def demote(session: Session, command: c.Demote) -> None:
    """Make an admin a plain member."""
    await _about_member(session, command, Op.DEMOTE, bodies.Demoted(command.member))


async def change_settings(session: Session, command: c.ChangeSettings) -> None:
    """Set name, description, avatar and settings."""
    creation = Creation(
        type=DialogType.GROUP,  # not read: the type never changes
        mode=DIALOG_TYPES[DialogType.GROUP].default_mode,
        name=_text("name", command.name, required=True),
        description=_text("description", command.description),
        avatar_url=_text("avatar_url", command.avatar_url),
        settings=command.settings,
    )
    body = bodies.SettingsChanged(creation.name, creation.description, creation.avatar_url, creation.settings)
    entry = _entry(_claims(session), Op.SETTINGS, command.dialog, command.n, body)
    await _apply(session, command, msgspec.structs.replace(entry, creation=creation))


async def delete(session: Session, command: c.Delete) -> None:
    """Delete a message for all."""
    body = bodies.Deleted(command.target)
    entry = _entry(_claims(session), Op.DELETE, command.dialog, command.n, body)
    await _apply(session, command, msgspec.structs.replace(entry, target=command.target))


async def mute(session: Session, command: c.Mute) -> None:
    """Mute a dialog for oneself."""
    claims = _claims(session)
    body = bodies.Muted(command.dialog, command.until_ms)
    entry = _entry(claims, Op.MUTE, self_dialog_id(claims.principal), command.n, body, command.dialog)
    await _apply(session, command, msgspec.structs.replace(entry, until_ms=command.until_ms))


async def block(session: Session, command: c.Block) -> None:
    """Block a principal."""
    await _about_principal(session, command, Op.BLOCK, bodies.Blocked(command.principal))


async def unblock(session: Session, command: c.Unblock) -> None:
    """End a block."""
    await _about_principal(session, command, Op.UNBLOCK, bodies.Unblocked(command.principal))


async def _about_member(session: Session, command: c.Remove | c.Promote | c.Demote, op: Op, body: bodies.Body) -> None:
    entry = _entry(_claims(session), op, command.dialog, command.n, body, command.member)
    await _apply(session, command, entry)


async def _about_principal(session: Session, command: c.Block | c.Unblock, op: Op, body: bodies.Body) -> None:
    claims = _claims(session)
    entry = _entry(claims, op, self_dialog_id(claims.principal), command.n, body, command.principal)
    await _apply(session, command, entry)


async def _apply(session: Session, command: c.Change | c.Delete, entry: ChangeEntry) -> None:
    verdict = await session.services.pipeline.append(entry)
    if verdict.code not in DURABLE:
        code = ERROR_OF[verdict.code]
        if not code.temporary:
            raise RefusedError(code)
        session.refuse_for_now(command, code, retry_after_s=RETRY_AFTER_S)
        return
    session.push(Acked(command.id, entry.dialog, entry.n, verdict.seq, verdict.at_ms, verdict.messages))


def _claims(session: Session) -> Claims:
    assert session.claims is not None
    return session.claims


def _entry(claims: Claims, op: Op, dialog: bytes, n: int, body: bodies.Body, *subjects: bytes) -> ChangeEntry:
    return ChangeEntry(op, dialog, claims.principal, claims.device, n, _encode(body), subjects)


def _text(field: str, value: str, *, required: bool = False) -> str:
    if "\0" in value:
        raise RefusedError(ErrorCode.INVALID_ARGUMENT, f"`{field}` contains a zero character")
    if required and not value.strip():
        raise RefusedError(ErrorCode.INVALID_ARGUMENT, f"`{field}` is required")
    return value
