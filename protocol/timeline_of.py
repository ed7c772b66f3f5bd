"""In which timeline a numbered command appends its body: where client and server count its `n`."""

from __future__ import annotations

from typing import cast

from protocol.command_rules import Timeline
from protocol.commands import Create, Invite, Numbered, Send
from protocol.dialog_types import DialogType
from protocol.ids import created_dialog_id, direct_dialog_id, self_dialog_id


def timeline_of(command: Numbered, principal: bytes, device: bytes) -> bytes:
    """The dialog in whose timeline a command of this principal's device appends."""
    if isinstance(command, Create):
        others = {*command.members} - {principal}
        if command.type is DialogType.DIRECT and len(others) == 1:
            return direct_dialog_id(principal, *others)
        return created_dialog_id(device, command.n)
    if command.rule.timeline is Timeline.SELF:
        return self_dialog_id(principal)
    if command.rule.timeline is Timeline.INVITED:
        return self_dialog_id(cast("Invite", command).member)
    return cast("Send", command).dialog
