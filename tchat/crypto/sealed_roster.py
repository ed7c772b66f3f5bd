"""The members of a sealed dialog as this device believes them, and the changes that need nobody's signature.

A roster is a value: each change makes another one, so what was believed before a change that fails is still there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from protocol.dialog_types import DialogType, Role
from protocol.limits import ROSTER_VIEWS_MAX
from protocol.roster import RosterMember, heir_of, view_of
from tchat.crypto.errors import RosterReason, RosterRefusedError


class RosterRefusal(msgspec.Struct, frozen=True):
    """What was not believed, to be shown: the event `seq`, and the person whom it was about (None: the dialog)."""

    seq: int
    reason: RosterReason
    about: bytes | None = None


class Grant(msgspec.Struct, frozen=True):
    """The signed change with which a member came: the device that signed, and its number."""

    device: bytes
    n: int


class SealedRoster(msgspec.Struct, frozen=True):
    """The members of a sealed dialog as of event `seq`. Whoever keeps it keeps it as a whole."""

    dialog: bytes
    seq: int = 0
    type: DialogType | None = None
    creation: bytes = b""
    """The hash of the event that created the dialog, as it was first seen."""
    members: dict[bytes, RosterMember] = {}
    grants: dict[bytes, Grant] = {}
    """How each member came."""
    ended: dict[bytes, dict[bytes, int]] = {}
    """By person and device: the grants up to this number ended with a removal, also one that a restore lost."""
    removed: dict[bytes, int] = {}
    """The event with which a former member went last."""
    numbers: dict[bytes, int] = {}
    """The last number under which a device has signed a change here."""
    keys_seq: int = 0
    views: dict[int, bytes] = {}
    """`view` at each of the newest values of `keys_seq`."""
    heir: tuple[int, bytes] | None = None
    """The event with which the last admin left, and who follows."""
    refusal: RosterRefusal | None = None
    """The dialog itself is not believed."""
    intruders: dict[bytes, RosterRefusal] = {}
    """Who is in the dialog by the server's word only; until the server removes them, or somebody entitled adds them."""

    @property
    def view(self) -> bytes:
        """What goes into every plaintext now; `RosterRefusedError` if nothing may be sent."""
        self._check()
        return self.views[self.keys_seq]

    @property
    def readers(self) -> Mapping[bytes, RosterMember]:
        """Who may be given keys; `RosterRefusedError` if nothing may be sent now."""
        self._check()
        return self.members

    def admins(self) -> list[bytes]:
        """Who may add, invite and promote."""
        return [principal for principal, member in self.members.items() if member.role is Role.ADMIN]

    def after_restore(self) -> SealedRoster:
        """To fold the dialog anew when the server has lost events: who was removed needs a new signature to be back."""
        return SealedRoster(self.dialog, creation=self.creation, ended=self.ended)

    def _check(self) -> None:
        for refusal in (self.refusal, *self.intruders.values()):
            if refusal is not None:
                raise RosterRefusedError(refusal.reason)
        if not self.members:
            raise RosterRefusedError(RosterReason.UNSIGNED)


def snapshot_of(dialog: bytes, keys_seq: int, members: Mapping[bytes, RosterMember]) -> SealedRoster:
    """A group as the server describes it at `keys_seq`: for `join_roster`, which believes it if it was signed."""
    views = {keys_seq: view_of(dialog, keys_seq, members)}
    return SealedRoster(dialog, keys_seq, DialogType.GROUP, members=dict(members), keys_seq=keys_seq, views=views)


def without(roster: SealedRoster, member: bytes, seq: int) -> SealedRoster:
    """Event `seq` removes a member, or says that they left."""
    ended = roster.ended | {member: _ended(roster, member)} if member in roster.grants else roster.ended
    return msgspec.structs.replace(
        roster,
        members={who: each for who, each in roster.members.items() if who != member},
        grants={who: grant for who, grant in roster.grants.items() if who != member},
        intruders={who: refusal for who, refusal in roster.intruders.items() if who != member},
        removed=roster.removed | {member: seq},
        ended=ended,
    )


def leave_roster(roster: SealedRoster, member: bytes, seq: int) -> SealedRoster:
    """Event `seq` says that a member left: the last admin is followed by the longest-standing member."""
    was_last_admin = roster.admins() == [member]
    roster = without(roster, member, seq)
    heir = heir_of(roster.members) if was_last_admin else None
    if heir is None:
        return roster
    return msgspec.structs.replace(with_role(roster, heir, Role.ADMIN), heir=(seq, heir))


def with_role(roster: SealedRoster, member: bytes, role: Role) -> SealedRoster:
    """Give a member another role; nobody else gets one."""
    found = roster.members.get(member)
    if found is None:
        return roster
    return msgspec.structs.replace(roster, members=roster.members | {member: msgspec.structs.replace(found, role=role)})


def hold_removed(
    roster: SealedRoster, seq: int, members: Sequence[bytes]
) -> tuple[SealedRoster, tuple[RosterRefusal, ...]]:
    """Hold the dialog for those who are back by a change that had ended: they stay in `view`, which others compute."""
    grants = {who: roster.grants[who] for who in members}
    back = [who for who, grant in grants.items() if _has_ended(roster, who, grant)]
    refusals = {who: RosterRefusal(seq, RosterReason.STILL_REMOVED, who) for who in back}
    return msgspec.structs.replace(roster, intruders=roster.intruders | refusals), tuple(refusals.values())


def keys_moved(roster: SealedRoster, keys_seq: int) -> SealedRoster:
    """Who must have keys changed: what is sealed from now on says so."""
    views = roster.views | {keys_seq: view_of(roster.dialog, keys_seq, roster.members)}
    newest = dict(sorted(views.items())[-ROSTER_VIEWS_MAX:])
    return msgspec.structs.replace(roster, keys_seq=keys_seq, views=newest)


def _has_ended(roster: SealedRoster, member: bytes, grant: Grant) -> bool:
    """Whether somebody went who had come with this change, or a later one of its device.

    A server creates one's own dialog under the number 0: that no change has ended is not the same as the number 0.
    """
    last = roster.ended.get(member, {}).get(grant.device)
    return last is not None and grant.n <= last


def _ended(roster: SealedRoster, member: bytes) -> dict[bytes, int]:
    grant, before = roster.grants[member], roster.ended.get(member, {})
    return before | {grant.device: max(grant.n, before.get(grant.device, 0))}
