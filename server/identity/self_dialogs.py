"""The `self` dialog of each person: it exists from the first sign-in on, and gets an event when the profile changes.

The person's row is committed before the dialog is created, so a crash in between leaves a person without one.
Therefore each sign-in creates the dialog again, which changes nothing when it exists.
"""

from __future__ import annotations

import logging

from protocol import ids
from protocol.bodies import Body, DialogCreated, MemberRole, ProfileChanged, Settings
from protocol.dialog_types import DIALOG_TYPES, DialogType, Role
from server.identity.ports import Appender
from server.refusals import DURABLE, check_durable
from storage.rows import ChangeEntry, VerdictCode

_log = logging.getLogger(__name__)


class SelfDialogs:
    """Creates self dialogs and appends to them, with the person as author."""

    def __init__(self, appender: Appender) -> None:
        self._appender = appender

    async def ensure(self, principal: bytes, device: bytes) -> None:
        """Create the dialog unless it exists. A failure is only logged: the next sign-in tries again."""
        mode = DIALOG_TYPES[DialogType.SELF].default_mode
        member = MemberRole(principal, Role.MEMBER)
        entry = _entry(principal, device, DialogCreated(DialogType.SELF, mode, "", "", "", Settings(), [member]))
        verdict = await self._appender.append(entry)
        if verdict.code not in DURABLE:
            _log.warning("no self dialog: %s", verdict.code.name, extra={"principal": ids.to_text(principal)})

    async def append_profile_changed(self, principal: bytes, device: bytes) -> None:
        """Append `ProfileChanged`, which the person's other devices get; raises RequestRefusedError."""
        entry = _entry(principal, device, ProfileChanged())
        verdict = await self._appender.append(entry)
        if verdict.code is VerdictCode.NOT_FOUND:
            await self.ensure(principal, device)
            verdict = await self._appender.append(entry)
        check_durable(verdict)


def _entry(principal: bytes, device: bytes, body: Body) -> ChangeEntry:
    return ChangeEntry(ids.self_dialog_id(principal), principal, device, 0, body)
