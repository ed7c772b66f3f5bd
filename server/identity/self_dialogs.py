"""The `self` dialog of a person: there from the first sign-in on, and told of changes of the profile.

The person's row is committed before the dialog is created, so a crash in between leaves somebody without one. Hence
creation is repeated at every sign-in, where it changes nothing when the dialog is there.
"""

from __future__ import annotations

import logging

from protocol import ids
from protocol.bodies import Body, DialogCreated, MemberRole, ProfileChanged, Settings
from protocol.dialog_types import DIALOG_TYPES, DialogType, Role
from server.identity.ports import Appender
from server.identity.refusal import check_durable
from server.refusals import DURABLE
from storage.rows import ChangeEntry, VerdictCode

_log = logging.getLogger(__name__)


class SelfDialogs:
    """FlushTurn into them, in the person's own name."""

    def __init__(self, appender: Appender) -> None:
        self._appender = appender

    async def ensure(self, principal: bytes, device: bytes) -> None:
        """See to it that the dialog exists. A failure is only logged: the next sign-in tries again."""
        mode = DIALOG_TYPES[DialogType.SELF].default_mode
        member = MemberRole(principal, Role.MEMBER)
        entry = _entry(principal, device, DialogCreated(DialogType.SELF, mode, "", "", "", Settings(), [member]))
        verdict = await self._appender.append(entry)
        if verdict.code not in DURABLE:
            _log.warning("no self dialog for %s: %s", ids.to_text(principal), verdict.code.name)

    async def note_profile(self, principal: bytes, device: bytes) -> None:
        """Tell the person's other devices that the profile changed; raises IdentityError when that failed."""
        entry = _entry(principal, device, ProfileChanged())
        verdict = await self._appender.append(entry)
        if verdict.code is VerdictCode.NOT_FOUND:
            await self.ensure(principal, device)
            verdict = await self._appender.append(entry)
        check_durable(verdict)


def _entry(principal: bytes, device: bytes, body: Body) -> ChangeEntry:
    return ChangeEntry(ids.self_dialog_id(principal), principal, device, 0, body)
