"""Changes: of a roster, of settings, of an older event, of one's own state. Each is one append, answered in order.

Whether the author may is judged by the store, under the dialog's lock. Checked here is only what needs no lock.
"""

from __future__ import annotations

from protocol import bodies
from protocol import commands as c
from protocol.dialog_types import DIALOG_TYPES, DialogType, Role
from protocol.errors import ErrorCode
from server.refusals import RequestRefusedError
from server.session.session import Session
from server.writing.pipeline import Pipeline
from storage.rows import ChangeEntry


class Changes:
    """Handlers of the commands that change something; `append` serves those that need no check of their own."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    async def append(self, session: Session, command: c.Numbered) -> None:
        """Append the body that the command's rule names, made of the command's fields of the same names."""
        appends = command.rule.appends
        assert appends is not None
        shared = set(appends.__struct_fields__).intersection(command.__struct_fields__)
        await self._append(session, command, appends(**{name: getattr(command, name) for name in shared}))

    async def create(self, session: Session, command: c.Create) -> None:
        """Create a dialog, or return the direct one that exists."""
        me, rule = session.principal, DIALOG_TYPES[command.type]
        members = (me, *(member for member in dict.fromkeys(command.members) if member != me))
        if command.type is DialogType.SELF:
            raise RequestRefusedError(ErrorCode.INVALID_ARGUMENT, "everybody has a `self` dialog already")
        if not rule.members_min <= len(members) <= rule.members_max:
            raise RequestRefusedError(
                ErrorCode.MEMBERS_BOUND, f"{rule.members_min} to {rule.members_max}, you included"
            )
        _check_text("name", command.name, required=rule.named)
        _check_text("description", command.description)
        _check_text("avatar_url", command.avatar_url)
        founder = Role.ADMIN if rule.has_admins else Role.MEMBER
        body = bodies.DialogCreated(
            command.type,
            command.mode or rule.default_mode,
            command.name,
            command.description,
            command.avatar_url,
            command.settings,
            [bodies.MemberRole(who, founder if who == me else Role.MEMBER) for who in members],
        )
        await self._append(session, command, body)

    async def add(self, session: Session, command: c.Add) -> None:
        """Add members, or oneself to a public dialog."""
        await self._append(session, command, bodies.MembersAdded(list(dict.fromkeys(command.members))))

    async def remove(self, session: Session, command: c.Remove) -> None:
        """Remove a member."""
        if command.member == session.principal:
            raise RequestRefusedError(ErrorCode.INVALID_ARGUMENT, "to go yourself, use `leave`")
        await self.append(session, command)

    async def change_settings(self, session: Session, command: c.ChangeSettings) -> None:
        """Set name, description, avatar and settings."""
        _check_text("name", command.name, required=True)
        _check_text("description", command.description)
        _check_text("avatar_url", command.avatar_url)
        await self.append(session, command)

    async def _append(self, session: Session, command: c.Numbered, body: bodies.Body) -> None:
        claims = session.claims
        dialog = c.timeline_of(command, claims.principal, claims.device)
        entry = ChangeEntry(dialog, claims.principal, claims.device, command.n, body)
        session.answer(command, dialog, await self._pipeline.append(entry))


def _check_text(field: str, value: str, *, required: bool = False) -> None:
    if "\0" in value:
        raise RequestRefusedError(ErrorCode.INVALID_ARGUMENT, f"`{field}` contains a zero character")
    if required and not value.strip():
        raise RequestRefusedError(ErrorCode.INVALID_ARGUMENT, f"`{field}` is required")
