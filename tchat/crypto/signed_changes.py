"""Who is in a sealed dialog, by signatures: folded from its events, whatever the server says.

Invariants:

- A roster grows by a valid signature of somebody entitled: the author who creates the dialog, an admin who adds,
  invites or promotes. The server's word alone only shrinks it: a removal, a leaving and a demotion are believed.
- A direct dialog and a `self` dialog need no signature: their ids are made of their members.
- Who follows the last admin who leaves is computed, not believed.
- The signer's keys are those of their device log as it was at that place of the dialog (`LogHead`), and the log is one
  that this device has pinned: see `pins.py`.
- While somebody is in the dialog by the server's word only, `readers` is refused: nothing is sent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from protocol.bodies import (
    Demoted,
    DevicesChanged,
    DialogCreated,
    LogHead,
    MemberLeft,
    MemberRemoved,
    MembersAdded,
    Promoted,
    Signed,
    TimelineEvent,
)
from protocol.dialog_types import DIALOG_TYPES, DialogType, Mode, Role
from protocol.ids import created_dialog_id, direct_dialog_id, self_dialog_id
from protocol.limits import ROSTER_VIEWS_MAX
from protocol.public_keys import is_signature
from protocol.roster import (
    ChangePlace,
    RosterMember,
    addition_input,
    creation_input,
    invitation_input,
    promotion_input,
)
from tchat.crypto.errors import LogsNeededError, RosterReason
from tchat.crypto.pins import PinnedLog
from tchat.crypto.sealed_roster import (
    Grant,
    RosterRefusal,
    SealedRoster,
    hold_removed,
    keys_moved,
    leave_roster,
    with_role,
    without,
)

Pins = Callable[[bytes], PinnedLog | None]
"""What is believed of a person's devices: `People.pin_of`."""


class RosterChange(msgspec.Struct, frozen=True):
    """What an event made of a roster, and what of it was not believed."""

    roster: SealedRoster
    refusals: tuple[RosterRefusal, ...] = ()


@dataclass(frozen=True, slots=True)
class _Pins:
    """What is believed of people's devices, and of whom the server gives no more."""

    pin_of: Pins
    unknown: Collection[bytes]

    def __call__(self, principal: bytes) -> PinnedLog | None:
        return self.pin_of(principal)


def fold_roster(
    roster: SealedRoster, event: TimelineEvent, pins: Pins, *, unknown: Collection[bytes] = ()
) -> RosterChange:
    """Apply an event of the dialog, in order. `LogsNeededError`: read these device logs, then apply it again.

    `unknown` are people of whom the server gives no more of the log: how far it goes is the server's word then. Give
    them no keys while their log is shorter here than in the roster.
    """
    assert event.dialog == roster.dialog, "a roster is of one dialog"
    return _folded(roster, event, _Pins(pins, unknown))


def join_roster(
    snapshot: SealedRoster, me: bytes, events: Sequence[TimelineEvent], pins: Pins, *, unknown: Collection[bytes] = ()
) -> RosterChange:
    """The roster of who joins and sees nothing older: what the server says was before, if it is what an admin signed.

    `snapshot` (`snapshot_of`) is as of the `keys_seq` that was signed; `events` are those of the roster since then, up
    to the one that brings `me`, whose signer is an admin in the snapshot. The signature covers the snapshot's `view`.
    `LogsNeededError` and `unknown` as in `fold_roster`.
    """
    logs = {who: member.log for who, member in snapshot.members.items()}
    reason = _why_not_logs(list(logs.values()), logs, _Pins(pins, unknown))
    change = RosterChange(snapshot)
    refusals: list[RosterRefusal] = []
    for event in events:
        change = fold_roster(change.roster, event, pins, unknown=unknown)
        refusals += change.refusals
    body = events[-1].body if events else None
    signed = _signed_of(body) if isinstance(body, MembersAdded) and me in body.members else None
    seq = events[-1].seq if events else snapshot.seq
    if reason or signed is None or signed.keys_seq != snapshot.keys_seq or me not in change.roster.members:
        why = (each.reason for each in refusals if each.about == me)
        refusal = RosterRefusal(seq, reason or next(why, RosterReason.WRONG_VIEW), me)
        return RosterChange(msgspec.structs.replace(change.roster, refusal=refusal), (*refusals, refusal))
    return RosterChange(change.roster, tuple(refusals))


def _folded(roster: SealedRoster, event: TimelineEvent, pins: _Pins) -> RosterChange:
    if event.seq <= roster.seq and not isinstance(event.body, DialogCreated):
        return RosterChange(roster)
    match event.body:
        case DialogCreated() as body:
            return _created(roster, event, body, pins)
        case _ if roster.refusal is not None or roster.type is None:
            return RosterChange(roster)
        case MembersAdded() as body:
            changed = _added(roster, event, body, pins)
        case MemberRemoved(member=member):
            changed = RosterChange(keys_moved(without(roster, member, event.seq), event.seq))
        case MemberLeft():
            changed = RosterChange(keys_moved(leave_roster(roster, event.author, event.seq), event.seq))
        case Promoted() as body:
            changed = _promoted(roster, event, body, pins)
        case Demoted(member=member):
            changed = RosterChange(with_role(roster, member, Role.MEMBER))
        case DevicesChanged() as body:
            changed = _devices_changed(roster, event, body, pins)
        case _:
            return RosterChange(roster)
    return RosterChange(msgspec.structs.replace(changed.roster, seq=event.seq), changed.refusals)


def _created(roster: SealedRoster, event: TimelineEvent, body: DialogCreated, pins: _Pins) -> RosterChange:
    at = ChangePlace(event.dialog, event.author, event.device, event.n)
    message = creation_input(at, body.type, body.mode, body.members)
    creation = hashlib.sha256(message).digest()
    if body.type is DialogType.GROUP and roster.creation not in (b"", creation):
        return _refused_dialog(roster, RosterRefusal(event.seq, RosterReason.FORKED_CREATION))
    if event.seq <= roster.seq:
        return RosterChange(roster)
    if roster.type is not None:
        return _refused_dialog(roster, RosterRefusal(event.seq, RosterReason.REPLAYED))
    members = [member.principal for member in body.members]
    heads = _heads_of(members, body.logs)
    begun = msgspec.structs.replace(
        roster,
        seq=event.seq,
        type=body.type,
        creation=creation,
        members={
            member.principal: RosterMember(member.role, event.seq, heads[member.principal]) for member in body.members
        },
        grants=dict.fromkeys(members, Grant(event.device, event.n)),
        numbers={event.device: event.n},
    )
    reason = _why_not_created(event, body) or _why_not_logs(body.logs, heads, pins)
    if reason is None and body.type is DialogType.GROUP:
        reason = _why_not_signed(begun, at, message, body.signature, pins)
    if reason is not None:
        refused = msgspec.structs.replace(begun, members={}, grants={})
        return _refused_dialog(refused, RosterRefusal(event.seq, reason))
    begun, refusals = hold_removed(begun, event.seq, members)
    return RosterChange(keys_moved(begun, 0), refusals)


def _why_not_created(event: TimelineEvent, body: DialogCreated) -> RosterReason | None:
    """Whether this is a dialog that may be sealed, with the id that its creation gives it."""
    members = {member.principal: member.role for member in body.members}
    rule = DIALOG_TYPES[body.type]
    if body.mode is not Mode.SEALED or not rule.sealable or body.settings.is_public:
        return RosterReason.NOT_SEALED
    founder = Role.ADMIN if rule.has_admins else Role.MEMBER
    roles = {who: founder if who == event.author else Role.MEMBER for who in members}
    sized = rule.members_min <= len(members) == len(body.members) <= rule.members_max
    if not sized or members != roles or event.author not in members:
        return RosterReason.WRONG_MEMBERS
    match body.type:
        case DialogType.SELF:
            dialog = self_dialog_id(event.author)
        case DialogType.DIRECT:
            dialog = direct_dialog_id(*members)
        case _:
            dialog = created_dialog_id(event.device, event.n)
    if dialog != event.dialog:
        return RosterReason.WRONG_DIALOG
    if body.type is DialogType.GROUP and body.signature is None:
        return RosterReason.UNSIGNED
    return None


def _added(roster: SealedRoster, event: TimelineEvent, body: MembersAdded, pins: _Pins) -> RosterChange:
    reason = _why_not_added(roster, event, body, pins)
    heads = _heads_of(body.members, body.logs)
    strangers = [who for who in body.members if who not in roster.members]
    if reason is not None:
        refusals = {who: RosterRefusal(event.seq, reason, who) for who in strangers}
        kept_out = msgspec.structs.replace(roster, intruders=roster.intruders | refusals)
        return RosterChange(keys_moved(kept_out, event.seq), tuple(refusals.values()))
    invitation = body.invitation
    grant = Grant(event.device, event.n) if invitation is None else Grant(invitation.device, invitation.n)
    numbers = roster.numbers if invitation else roster.numbers | {event.device: event.n}
    joined = msgspec.structs.replace(
        roster,
        members=roster.members | {who: RosterMember(Role.MEMBER, event.seq, heads[who]) for who in strangers},
        grants=roster.grants | dict.fromkeys(strangers, grant),
        numbers=numbers,
        intruders={who: refusal for who, refusal in roster.intruders.items() if who not in body.members},
    )
    joined, refusals_again = hold_removed(joined, event.seq, strangers)
    return RosterChange(keys_moved(joined, event.seq), refusals_again)


def _why_not_added(roster: SealedRoster, event: TimelineEvent, body: MembersAdded, pins: _Pins) -> RosterReason | None:
    """Whether somebody entitled has signed this addition, here and for these members."""
    signed = _signed_of(body)
    if signed is None:
        return RosterReason.UNSIGNED
    if body.invitation is not None:
        by = ChangePlace(event.dialog, body.invitation.by, body.invitation.device, body.invitation.n)
        message = invitation_input(by, signed.keys_seq, signed.view, event.author)
        if body.members != [event.author]:
            return RosterReason.WRONG_MEMBERS
    else:
        by = ChangePlace(event.dialog, event.author, event.device, event.n)
        message = addition_input(by, signed.keys_seq, signed.view, body.members)
        if by.n <= roster.numbers.get(by.device, 0):
            return RosterReason.REPLAYED
    if any(roster.removed.get(who, 0) > signed.keys_seq for who in body.members):
        return RosterReason.REPLAYED
    reason = _why_not_by_admin(roster, by, message, signed, pins)
    if reason is RosterReason.WRONG_VIEW and body.invitation is not None and _is_forgotten(roster, signed, event):
        reason = None
    return reason or _why_not_logs(body.logs, _heads_of(body.members, body.logs), pins)


def _promoted(roster: SealedRoster, event: TimelineEvent, body: Promoted, pins: _Pins) -> RosterChange:
    reason: RosterReason | None = RosterReason.UNSIGNED
    if event.n == 0:
        # Done already, when the last admin left.
        reason = None if roster.heir == (event.seq - 1, body.member) else RosterReason.WRONG_HEIR
    elif (signed := body.signed) is not None:
        at = ChangePlace(event.dialog, event.author, event.device, event.n)
        message = promotion_input(at, signed.keys_seq, signed.view, body.member)
        if event.n <= roster.numbers.get(event.device, 0) or roster.removed.get(body.member, 0) > signed.keys_seq:
            reason = RosterReason.REPLAYED
        else:
            reason = _why_not_by_admin(roster, at, message, signed, pins)
    if reason is not None:
        return RosterChange(roster, (RosterRefusal(event.seq, reason, body.member),))
    numbers = roster.numbers | ({event.device: event.n} if event.n else {})
    promoted = with_role(roster, body.member, Role.ADMIN)
    return RosterChange(msgspec.structs.replace(promoted, numbers=numbers))


def _devices_changed(roster: SealedRoster, event: TimelineEvent, body: DevicesChanged, pins: _Pins) -> RosterChange:
    found = roster.members.get(body.principal)
    if found is None:
        return RosterChange(keys_moved(roster, event.seq))
    before, log = found.log, body.log
    goes_on = log == before or (log.generation, log.length) > (before.generation, before.length)
    reason = _why_not_logs([body.log], {body.principal: body.log}, pins) if goes_on else RosterReason.WRONG_LOG
    if reason is not None:
        return RosterChange(keys_moved(roster, event.seq), (RosterRefusal(event.seq, reason, body.principal),))
    member = msgspec.structs.replace(found, log=body.log)
    grown = msgspec.structs.replace(roster, members=roster.members | {body.principal: member})
    return RosterChange(keys_moved(grown, event.seq))


def _why_not_by_admin(
    roster: SealedRoster, by: ChangePlace, message: bytes, signed: Signed, pins: _Pins
) -> RosterReason | None:
    author = roster.members.get(by.author)
    if author is None or author.role is not Role.ADMIN:
        return RosterReason.NOT_ENTITLED
    reason = _why_not_signed(roster, by, message, signed.signature, pins)
    if reason is not None:
        return reason
    return None if roster.views.get(signed.keys_seq) == signed.view else RosterReason.WRONG_VIEW


def _is_forgotten(roster: SealedRoster, signed: Signed, event: TimelineEvent) -> bool:
    """Whether a view is older than those that are kept: an invitation may wait for long."""
    return signed.keys_seq < min(roster.views, default=event.seq) and len(roster.views) == ROSTER_VIEWS_MAX


def _why_not_signed(
    roster: SealedRoster, at: ChangePlace, message: bytes, signature: bytes | None, pins: _Pins
) -> RosterReason | None:
    """Whether a device has signed that is in the author's log, as far as the log goes at this place of the dialog."""
    log, pin = roster.members[at.author].log, pins(at.author)
    keys = None if pin is None else pin.keys_at(at.device, log.generation, log.length)
    if keys is None:
        return RosterReason.UNKNOWN_DEVICE
    if signature is None or not is_signature(signature, message, keys.ed25519):
        return RosterReason.WRONG_SIGNATURE
    return None


def _why_not_logs(given: Sequence[LogHead], heads: Mapping[bytes, LogHead], pins: _Pins) -> RosterReason | None:
    """Whether these are the logs that this device has pinned; raises `LogsNeededError` for those it cannot compare."""
    if len(given) not in (0, len(heads)):
        return RosterReason.WRONG_LOG
    needed: dict[bytes, int] = {}
    for principal, head in heads.items():
        if head.generation == 0:
            continue
        pin = pins(principal)
        found = next((log for log in pin.logs if log.generation == head.generation), None) if pin else None
        if found is None or found.length < head.length:
            needed |= {} if principal in pins.unknown else {principal: head.generation}
        elif head.length < 1 or found.heads[head.length - 1] != head.head:
            return RosterReason.WRONG_LOG
    if needed:
        raise LogsNeededError(needed)
    return None


def _heads_of(members: Sequence[bytes], logs: Sequence[LogHead]) -> dict[bytes, LogHead]:
    """The log of each, none where the server gives none."""
    return dict.fromkeys(members, LogHead()) | dict(zip(members, logs, strict=False))


def _signed_of(body: MembersAdded) -> Signed | None:
    return body.signed if body.invitation is None else body.invitation.signed


def _refused_dialog(roster: SealedRoster, refusal: RosterRefusal) -> RosterChange:
    return RosterChange(msgspec.structs.replace(roster, seq=max(roster.seq, refusal.seq), refusal=refusal), (refusal,))
