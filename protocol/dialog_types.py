"""The types of dialogs as one table: bounds, who writes, what new members see."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from protocol.limits import SEALED_MEMBERS_MAX


class DialogType(enum.IntEnum):
    """What a dialog is; fixed at creation."""

    SELF = 1
    DIRECT = 2
    GROUP = 3
    CHANNEL = 4


class Mode(enum.IntEnum):
    """Who can read the envelopes; fixed at creation and shown to every member."""

    SEALED = 1
    OPEN = 2


class Role(enum.IntEnum):
    """What a member may do."""

    MEMBER = 0
    ADMIN = 1


@dataclass(frozen=True, slots=True)
class TypeRule:
    """One row of the table. `members_min` holds at creation only; `members_max` always."""

    members_min: int
    members_max: int
    admins_only_write: bool
    fixed_roster: bool
    named: bool
    has_admins: bool
    receipts: bool
    typing: bool
    full_history: bool
    default_mode: Mode

    @property
    def sealable(self) -> bool:
        """Whether dialogs of this type may be sealed: who joins could not read what `full_history` shows them."""
        return self.members_max <= SEALED_MEMBERS_MAX and not (self.full_history and not self.fixed_roster)


DIALOG_TYPES: dict[DialogType, TypeRule] = {
    DialogType.SELF: TypeRule(
        members_min=1,
        members_max=1,
        admins_only_write=False,
        fixed_roster=True,
        named=False,
        has_admins=False,
        receipts=False,
        typing=False,
        full_history=True,
        default_mode=Mode.SEALED,
    ),
    DialogType.DIRECT: TypeRule(
        members_min=2,
        members_max=2,
        admins_only_write=False,
        fixed_roster=True,
        named=False,
        has_admins=False,
        receipts=True,
        typing=True,
        full_history=True,
        default_mode=Mode.SEALED,
    ),
    DialogType.GROUP: TypeRule(
        members_min=3,
        members_max=1000,
        admins_only_write=False,
        fixed_roster=False,
        named=True,
        has_admins=True,
        receipts=True,
        typing=True,
        full_history=False,
        default_mode=Mode.SEALED,
    ),
    DialogType.CHANNEL: TypeRule(
        members_min=1,
        members_max=100_000,
        admins_only_write=True,
        fixed_roster=False,
        named=True,
        has_admins=True,
        receipts=False,
        typing=False,
        full_history=True,
        default_mode=Mode.OPEN,
    ),
}
