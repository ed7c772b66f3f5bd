"""Changes: of a roster, of settings, of an older event, of one's own state. Each is one append, answered in order.

Whether the author may is judged by the store, under the dialog's lock. Checked here is only what needs no lock.
"""

from __future__ import annotations

import msgspec

from protocol import bodies
from protocol import commands as c
from protocol.dialog_types import DIALOG_TYPES, DialogType, Mode, Role
from protocol.errors import ErrorCode
from protocol.timeline_of import timeline_of
from server.refusals import RequestRefusedError
from server.session.caps import DailyCaps
from server.session.session import Session
from server.texts import check_https, check_line, check_paragraphs
from server.writing.pipeline import Pipeline
from storage.rows import ChangeEntry, Verdict, VerdictCode
from storage.timelines import Timelines

_COUNTED = frozenset({VerdictCode.OK, VerdictCode.UNAVAILABLE, VerdictCode.INTERNAL})
"""Verdicts after which a change was made, or may have been."""


class Changes:
    """Handlers of the commands that change something; `append` serves those that need no check of their own."""

    def __init__(self, pipeline: Pipeline, timelines: Timelines, caps: DailyCaps) -> None:
        self._pipeline = pipeline
        self._timelines = timelines
        self._caps = caps

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
        if not rule.has_admins and command.settings.message_retention_days:
            # One of the two would decide it for both, and nobody could change it.
            raise RequestRefusedError(ErrorCode.INVALID_ARGUMENT, "`message_retention_days` is for dialogs with admins")
        mode = command.mode or rule.default_mode
        if mode is Mode.SEALED and (command.settings.is_public or not rule.sealable):
            raise RequestRefusedError(ErrorCode.INVALID_ARGUMENT, "a public dialog, or a channel, has the `mode` open")
        _check_texts(command, named=rule.named)
        founder = Role.ADMIN if rule.has_admins else Role.MEMBER
        body = bodies.DialogCreated(
            command.type,
            mode,
            command.name,
            command.description,
            command.avatar_url,
            command.settings,
            [bodies.MemberRole(who, founder if who == me else Role.MEMBER) for who in members],
            command.signature,
        )
        await self._append(session, command, body)

    async def add(self, session: Session, command: c.Add) -> None:
        """Add members, or oneself to a public dialog."""
        await self._append(session, command, bodies.MembersAdded(list(dict.fromkeys(command.members)), command.signed))

    async def invite(self, session: Session, command: c.Invite) -> None:
        """Invite a person; the numbers of the event are theirs, and not in the answer."""
        me = session.principal
        rows = await self._timelines.read_dialogs(me, [command.dialog])
        if not rows:
            raise RequestRefusedError(ErrorCode.DIALOG_NOT_FOUND)
        state = rows[0].state
        verdict = await self._submit(
            session, command, bodies.Invited(command.dialog, me, state.type, state.name, command.signed)
        )
        session.answer(command, _timeline(session, command), msgspec.structs.replace(verdict, seq=0, messages=0))

    async def accept(self, session: Session, command: c.Accept) -> None:
        """Join a dialog into which one is invited."""
        await self._append(session, command, bodies.MembersAdded([session.principal], invitation=command.invitation))

    async def remove(self, session: Session, command: c.Remove) -> None:
        """Remove a member."""
        if command.member == session.principal:
            raise RequestRefusedError(ErrorCode.INVALID_ARGUMENT, "to go yourself, use `leave`")
        await self.append(session, command)

    async def change_settings(self, session: Session, command: c.ChangeSettings) -> None:
        """Set name, description, avatar and settings."""
        _check_texts(command, named=True)
        await self.append(session, command)

    async def _append(self, session: Session, command: c.Numbered, body: bodies.Body) -> None:
        session.answer(command, _timeline(session, command), await self._submit(session, command, body))

    async def _submit(self, session: Session, command: c.Numbered, body: bodies.Body) -> Verdict:
        claims = session.claims
        dialog = _timeline(session, command)
        taken, wait_s = await self._caps.take(claims.principal, body)
        verdict = await self._pipeline.append(
            ChangeEntry(dialog, claims.principal, claims.device, command.n, body, over_daily_limit=wait_s > 0)
        )
        if verdict.code is VerdictCode.DAILY_LIMIT:
            raise RequestRefusedError(ErrorCode.DAILY_LIMIT, retry_after_s=round(wait_s, 3))
        if verdict.code not in _COUNTED:
            await self._caps.give_back(claims.principal, taken)
        return verdict


def _timeline(session: Session, command: c.Numbered) -> bytes:
    return timeline_of(command, session.principal, session.device)


def _check_texts(command: c.Create | c.ChangeSettings, *, named: bool) -> None:
    check_line("name", command.name)
    check_paragraphs("description", command.description)
    check_https("avatar_url", command.avatar_url)
    if named and not command.name.strip():
        raise RequestRefusedError(ErrorCode.INVALID_ARGUMENT, "`name` is required")
