"""Changes of who reads, signed when they leave: their number, and the members that this device sees, are inside.

Invariants:

- What is signed is a roster that this device believes as a whole: who signs an addition vouches for who is there.
- The command is in the outbox, with its signature, before its bytes leave; refused as `stale`, it is signed anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

from protocol import bodies as b
from protocol.commands import Accept, Add, Create, Invite, Numbered, Promote
from protocol.dialog_types import DIALOG_TYPES, DialogType, Mode, Role
from protocol.events import DialogState
from protocol.ids import created_dialog_id
from protocol.limits import INVITATIONS_MAX
from protocol.roster import ChangePlace, addition_input, creation_input, invitation_input, promotion_input
from tchat.crypto.machine import CryptoMachine
from tchat.crypto.sealed_roster import SealedRoster
from tchat.crypto.state import CryptoState, OutboxRow, Step, Table

_Signed = TypeVar("_Signed", Create, Add | Promote | Invite, Accept)


def is_sealed_group(command: Create) -> bool:
    """Whether a command creates a group that its author signs."""
    mode = command.mode or DIALOG_TYPES[command.type].default_mode
    return command.type is DialogType.GROUP and mode is Mode.SEALED


class Signing:
    """Signs with the key of this device."""

    def __init__(self, machine: CryptoMachine) -> None:
        self._machine = machine

    def creation(self, command: Create, row: Callable[[Numbered], bytes]) -> Create:
        """The creation of a sealed group, signed, as it is in the outbox on return."""
        me = self._machine.principal
        others = [each for each in dict.fromkeys(command.members) if each != me]
        members = [b.MemberRole(me, Role.ADMIN), *(b.MemberRole(each, Role.MEMBER) for each in others)]
        at = self._place(created_dialog_id(self._machine.device, command.n), command.n)
        signature = self._machine.sign(creation_input(at, command.type, Mode.SEALED, members))
        return self._leave(msgspec.structs.replace(command, signature=signature), row)

    def change(self, command: Add | Promote | Invite, seen: SealedRoster, row: Callable[[Numbered], bytes]) -> Numbered:
        """A change of the members that are `seen`, signed, as it is in the outbox on return."""
        at, keys_seq = self._place(command.dialog, command.n), seen.keys_seq
        view = seen.views[keys_seq]
        match command:
            case Add(members=members):
                message = addition_input(at, keys_seq, view, list(dict.fromkeys(members)))
            case Promote(member=member):
                message = promotion_input(at, keys_seq, view, member)
            case Invite(member=member):
                message = invitation_input(at, keys_seq, view, member)
        signed = b.Signed(keys_seq, view, self._machine.sign(message))
        return self._leave(msgspec.structs.replace(command, signed=signed), row)

    def joining(self, command: Accept, invitation: b.Invitation, row: Callable[[Numbered], bytes]) -> Accept:
        """An acceptance with what the inviter has signed, as it is in the outbox on return."""
        return self._leave(msgspec.structs.replace(command, invitation=invitation), row)

    def _place(self, dialog: bytes, n: int) -> ChangePlace:
        return ChangePlace(dialog, self._machine.principal, self._machine.device, n)

    def _leave(self, command: _Signed, row: Callable[[Numbered], bytes]) -> _Signed:
        self._machine.put_out(OutboxRow(command.n, row(command)))
        return command


class Invitations:
    """What admins have signed to let this person join, until they join or decline."""

    def __init__(self, state: CryptoState, me: bytes) -> None:
        self._state = state
        self._me = me

    def to(self, dialog: bytes) -> b.Invitation | None:
        """The newest invitation into this dialog."""
        data = self._state.read(Table.INVITATIONS, dialog)
        return None if data is None else msgspec.msgpack.decode(data, type=b.Invitation)

    def stated(self, state: DialogState) -> None:
        """The state of a dialog: that of the own one has the invitations that this device did not hear."""
        for invited, (device, n) in zip(state.invitations, state.invited_by, strict=False):
            if invited.signed is not None:
                self._keep(invited.dialog, b.Invitation(invited.by, device, n, invited.signed))

    def heard(self, event: b.TimelineEvent) -> None:
        """An event of the server, in order; most are about something else."""
        match event.body:
            case b.Invited(dialog=dialog, by=by, signed=b.Signed() as signed):
                self._keep(dialog, b.Invitation(by, event.device, event.n, signed))
            case b.Declined(dialog=dialog):
                self._forget(dialog)
            case b.MembersAdded(members=members) if self._me in members:
                self._forget(event.dialog)
            case _:
                pass

    def _keep(self, dialog: bytes, invitation: b.Invitation) -> None:
        if self.to(dialog) == invitation:
            return
        before = self._state.keys(Table.INVITATIONS, b"")
        step = Step(self._state)
        for forgotten in before if len(before) >= 2 * INVITATIONS_MAX else ():
            step.write(Table.INVITATIONS, forgotten, None)
        step.write(Table.INVITATIONS, dialog, msgspec.msgpack.encode(invitation))
        step.commit()

    def _forget(self, dialog: bytes) -> None:
        if self.to(dialog) is not None:
            step = Step(self._state)
            step.write(Table.INVITATIONS, dialog, None)
            step.commit()
