"""What the rows and connections of a trace mean: whether a message was delivered, and if not, why."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import get_args

import msgspec

from protocol.bodies import AnyBody, Erased, MemberRemoved, tag_of
from protocol.dialog_types import DIALOG_TYPES, DialogType, Mode, Role
from protocol.json_forms import tag_name
from protocol.kinds import Kind
from server.node.connected import Connected, Here
from storage.identity_rows import EndReason
from storage.postgres.traces import MEMBERS_MAX, DeviceRow, Found, Head, MemberRow, Row
from storage.rows import PrincipalStatus

_NAMES = {tag_of(body): tag_name(body) for body in get_args(AnyBody)}
_ERASED = tag_of(Erased)
_REMOVED = tag_of(MemberRemoved)
_CANNOT_CONNECT: dict[int | None, str] = {
    PrincipalStatus.SUSPENDED: "visible, but they are suspended and cannot connect",
    PrincipalStatus.DELETED: "visible, but they have deleted their account",
}


class TracedDevice(msgspec.Struct, frozen=True):
    """A sign-in of a member, and its connection."""

    device: str
    sign_in: str
    client: str
    node: str | None
    connection: Connected | None
    why: str
    """Why the message was delivered there, or was not."""


class TracedMember(msgspec.Struct, frozen=True):
    """Somebody who is or was a member."""

    principal: str
    role: str
    visible: bool
    delivered: bool | None
    """Whether a device of theirs has reported it; None where the dialog has no receipts."""
    read: bool | None
    why: str
    devices: list[TracedDevice]


class Trace(msgspec.Struct, frozen=True):
    """The answer."""

    dialog: str
    seq: int
    facts: list[str]
    members: list[TracedMember]
    notes: list[str]


class Asked(msgspec.Struct, frozen=True):
    """Who is connected: the answers of nodes, and what is not known, in sentences."""

    answers: list[Here]
    unknown: list[str]
    located: dict[str, list[int]] | None = None
    """By member, the incarnations that Redis finds them at; None: it was not asked, or does not know."""

    def find_unasked(self, principal: str) -> list[int]:
        """The incarnations that somebody is connected to and that have not answered."""
        answered = {here.incarnation for here in self.answers}
        return [node for node in (self.located or {}).get(principal, ()) if node not in answered]

    def is_overlooked(self, principal: str, incarnation: int) -> bool:
        """Whether other nodes do not find somebody at this node."""
        return self.located is not None and incarnation not in self.located.get(principal, ())

    def find(self, sign_in: str) -> tuple[Here, Connected] | None:
        """The connection of a sign-in, and its node."""
        found = ((here, each) for here in self.answers for each in here.connected if each.sign_in == sign_in)
        return next(found, None)


def explain(dialog: str, seq: int, found: Found, asked: Asked) -> Trace:
    """What these rows and these connections mean."""
    if found.head is None:
        return Trace(dialog, seq, ["There is no such dialog."], [], [])
    facts = [_describe(found.head), *_describe_row(found.head, found.row, seq, found.now_ms), *_describe_later(found)]
    members = [_explain_member(found.head, each, found, seq, asked) for each in found.members]
    notes = ["Which device of a member has reported a receipt is not stored.", *asked.unknown]
    if found.more_members:
        notes.append(f"Only {MEMBERS_MAX} members are shown: name one with --member.")
    return Trace(dialog, seq, facts, members, notes)


# -- the message


def _describe(head: Head) -> str:
    kind, mode = DialogType(head.type).name.lower(), Mode(head.mode).name.lower()
    return f"a {mode} {kind} dialog with {head.member_count} members; its newest number is {head.seq}"


def _describe_row(head: Head, row: Row | None, seq: int, now_ms: int) -> Iterator[str]:
    if row is None and seq > head.seq:
        yield "not written: no event has this number yet"
        return
    if row is None:
        yield "not in the journal, and no archive was found that has it"
        return
    what = _NAMES.get(row.tag, f"tag {row.tag}")
    about = f" about number {row.target}" if row.target is not None else ""
    kind = f", kind {Kind(row.kind).name.lower()}" if row.kind in set(Kind) else ""
    yield f"{what}{about}{kind}, {row.bytes} bytes, by {row.author_id} on device {row.device_id} as its n {row.n}"
    yield from _describe_writing(row)
    if row.tag == _ERASED:
        yield "erased: who gets it gets an empty event"
    elif row.expires_at_ms is not None:
        ended = ", which has passed: it is about to be erased" if row.expires_at_ms <= now_ms else ""
        yield f"expires {_time(row.expires_at_ms)}{ended}"


def _describe_writing(row: Row) -> Iterator[str]:
    if row.xid is None:
        yield f"written {_time(row.at_ms)}; only the archive has it, so by which incarnation and flush is forgotten"
        return
    node = f"node {row.node}, which began {_time(row.node_started_at_ms)}" if row.node else "a node that is forgotten"
    yield f"written {_time(row.at_ms)} by incarnation {row.incarnation} ({node}), flush {row.flush_no}"
    if row.settled:
        yield f"transaction {row.xid}: positions handed out from now on are past it"
    else:
        yield f"transaction {row.xid}: an open transaction holds positions before it, so who resumes gets it again"


def _describe_later(found: Found) -> Iterator[str]:
    for each in found.later:
        yield f"later: {_NAMES[each.tag]} by {each.author_id} at {_time(each.at_ms)}, number {each.seq}"


# -- members and devices


def _explain_member(head: Head, member: MemberRow, found: Found, seq: int, asked: Asked) -> TracedMember:
    receipts = DIALOG_TYPES[DialogType(head.type)].receipts
    delivered = member.delivered >= seq if receipts and member.visible else None
    devices = []
    if member.visible and found.row is not None:
        sign_ins = [each for each in found.sign_ins if each.principal_id == member.principal_id]
        devices = [_explain_device(each, found.now_ms, asked) for each in sign_ins]
    return TracedMember(
        principal=member.principal_id,
        role=_role(member),
        visible=member.visible,
        delivered=delivered,
        read=member.read >= seq if receipts and member.visible else None,
        why=_why_of_member(member, found.row, seq, delivered, signed_in=bool(devices)),
        devices=devices,
    )


def _role(member: MemberRow) -> str:
    return Role(member.role).name.lower() if member.member else "no member now"


def _why_of_member(member: MemberRow, row: Row | None, seq: int, delivered: bool | None, *, signed_in: bool) -> str:
    if not member.visible:
        why = f"not visible to them: {_why_invisible(member)}"
    elif row is None:
        why = "it would be visible to them"
    elif member.status in _CANNOT_CONNECT:
        why = _CANNOT_CONNECT[member.status]
    elif member.principal_id == row.author_id:
        why = "visible: they wrote it"
    elif delivered:
        why = "read" if member.read >= seq else "delivered, not reported as read"
    elif not signed_in:
        why = "visible, not delivered: they have no sign-in"
    elif delivered is None:
        why = "visible; this type of dialog has no receipts, so nobody knows whether it arrived"
    else:
        why = f"visible, not reported as delivered: their receipts are at {member.delivered}"
    return why


def _why_invisible(member: MemberRow) -> str:
    if member.ended is None:
        return f"they joined later, with number {member.began}"
    how = "ended"
    if member.end_tag is not None:
        by = f" by {member.end_author}" if member.end_tag == _REMOVED else ""
        how = f"ended ({_NAMES[member.end_tag]}{by}, {_time(member.end_at_ms)})"
    text = f"their membership {how} with number {member.ended}"
    return text if member.began is None else f"{text}, and began again with {member.began}"


def _explain_device(sign_in: DeviceRow, now_ms: int, asked: Asked) -> TracedDevice:
    found = asked.find(sign_in.sign_in_id)
    client = f" ({' '.join(filter(None, (sign_in.platform, sign_in.app_version)))})" if sign_in.platform else ""
    return TracedDevice(
        device=sign_in.device_id,
        sign_in=sign_in.sign_in_id,
        client=client,
        node=found[0].node if found else None,
        connection=found[1] if found else None,
        why=_why_of_device(sign_in, now_ms, found, asked),
    )


def _why_of_device(sign_in: DeviceRow, now_ms: int, found: tuple[Here, Connected] | None, asked: Asked) -> str:
    if sign_in.revoked_at_ms is not None:
        why = f" ({EndReason(sign_in.revoked_why).name.lower()})" if sign_in.revoked_why else ""
        return f"its sign-in ended {_time(sign_in.revoked_at_ms)}{why}: it gets nothing"
    if sign_in.expires_at_ms is not None and sign_in.expires_at_ms <= now_ms:
        return f"its sign-in expired {_time(sign_in.expires_at_ms)}: it gets nothing"
    if found is None:
        return _why_not_found(sign_in, asked)
    here, connection = found
    where = f"connected to {here.node}, incarnation {here.incarnation}"
    waits = f", {connection.waiting_bytes} bytes wait" if connection.waiting_bytes else ""
    if asked.is_overlooked(sign_in.principal_id, here.incarnation):
        waits += ", Redis lacks it, so what other nodes write comes seconds later"
    stuck = f", its socket has taken nothing for {connection.stuck_s:.0f} s" if connection.stuck_s else ""
    if connection.live:
        return f"{where}: gets events as they come{waits}{stuck}"
    return f"{where}, but behind: it reads what it missed from the timeline{waits}{stuck}"


def _why_not_found(sign_in: DeviceRow, asked: Asked) -> str:
    used = f"; its sign-in was used {_time(sign_in.last_used_at_ms)}" if sign_in.last_used_at_ms else ""
    if unasked := asked.find_unasked(sign_in.principal_id):
        where = ", ".join(map(str, unasked))
        return f"perhaps connected: Redis has its person at incarnation {where}, which did not answer{used}"
    if asked.unknown and asked.located is None:
        return f"whether it is connected is not known; it gets what it lacks when it connects{used}"
    return f"not connected: it gets what it lacks when it connects{used}"


def _time(at_ms: int | None) -> str:
    if at_ms is None:
        return "at an unknown time"
    return dt.datetime.fromtimestamp(at_ms / 1000, dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
