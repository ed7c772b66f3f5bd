"""What the functions of changes decide (`storage/postgres/functions/change_*.sql`), on the rows in memory.

Called at the commit of a transaction that has locked the head. Changes that are not in `CHANGES` are refused with
NotSimulatedError; nobody is asked for consent here, and no day is over its limit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from protocol import bodies as b
from protocol.bodies import TimelineEventRaw, tag_of
from protocol.dialog_types import DialogType, Mode, Role
from protocol.kinds import DAY_MS, KINDS
from protocol.limits import VISIBLE_INTERVALS_MAX
from storage.rows import ChangeEntry, ChangeResult, PrincipalType, Verdict, VerdictCode
from tests.simulation.database import Database, Transaction
from tests.simulation.judging import append_row, same_value
from tests.simulation.tables import ERASED, POSTED, Dialog, Membership, NotSimulatedError, Row, decode_body

_encode = msgspec.msgpack.Encoder().encode
_OK, _DUPLICATE, _NOT_FOUND = VerdictCode.OK, VerdictCode.DUPLICATE, VerdictCode.NOT_FOUND


class _Change:
    """One change under the head's lock. `dialog` is None while it is being created."""

    def __init__(self, database: Database, entry: ChangeEntry, by: Transaction) -> None:
        self.database = database
        self.entry = entry
        self.by = by
        self.xid = by.xid
        self.now_ms = database.clock.wall_ms()
        self.dialog = database.dialogs.get(entry.dialog)
        self.rows: list[Row] = []

    @property
    def head(self) -> Dialog:
        """The dialog, which is there."""
        assert self.dialog is not None
        return self.dialog

    @property
    def me(self) -> Membership:
        """The author's own row."""
        return self.head.members[self.entry.author]

    def append(self, body: b.Body, *, n: int | None = None, target: int | None = None) -> Row:
        """Append an event of this change; `n` 0: one that the server adds."""
        entry = self.entry
        number = entry.n if n is None else n
        row = append_row(
            self.head,
            self.by,
            self.now_ms,
            author=entry.author,
            device=entry.device,
            n=number,
            tag=tag_of(type(body)),
            target=target,
            body=_encode(body),
        )
        self.rows.append(row)
        return row

    def result(self, code: VerdictCode) -> ChangeResult:
        """The answer: its rows, or the verdict and the head."""
        head = (0, 0, 0)
        if self.dialog is not None and code is not _NOT_FOUND:
            head = (self.dialog.member_count, self.dialog.roster_seq, self.dialog.keys_seq)
        if not self.rows:
            return ChangeResult(Verdict(code, 0, self.now_ms, 0, *head))
        first = self.rows[0]
        return ChangeResult(Verdict(code, first.seq, first.at_ms, first.messages, *head), self._events())

    def _events(self) -> tuple[TimelineEventRaw, ...]:
        where, entry = self.head.dialog, self.entry
        return tuple(
            TimelineEventRaw(where, r.seq, entry.author, entry.device, r.n, r.at_ms, r.messages, msgspec.Raw(r.body))
            for r in self.rows
        )


def may_change(database: Database, entry: ChangeEntry) -> bool:
    """Whether a change is judged under the head's lock; else its author is refused as a stranger before it."""
    if type(entry.body) not in CHANGES or entry.over_daily_limit:
        raise NotSimulatedError(type(entry.body).__name__)
    if isinstance(entry.body, b.DialogCreated):
        return True
    dialog = database.dialogs.get(entry.dialog)
    return dialog is not None and (entry.author in dialog.members or _may_join(dialog, entry))


def judge_change(database: Database, entry: ChangeEntry, by: Transaction) -> ChangeResult:
    """Judge a change, apply it if it is accepted, and answer."""
    change = _Change(database, entry, by)
    if isinstance(entry.body, b.DialogCreated):
        return _create(change, entry.body)
    if change.dialog is None:
        return change.result(_NOT_FOUND)
    first = _find_first_ack(change)
    if first is not None:
        return first
    is_member = change.dialog.role_of(entry.author) is not None
    if not is_member and not _may_join(change.dialog, entry):
        return change.result(_NOT_FOUND)
    if 0 < entry.n <= change.dialog.last_n.get(entry.device, 0):
        return change.result(VerdictCode.NUMBER_PASSED)
    return change.result(CHANGES[type(entry.body)](change))


def refuse_stranger(database: Database) -> ChangeResult:
    """The answer to who may not know the dialog."""
    return ChangeResult(Verdict(_NOT_FOUND, at_ms=database.clock.wall_ms()))


def _find_first_ack(change: _Change) -> ChangeResult | None:
    entry, dialog = change.entry, change.head
    row = dialog.by_number.get((entry.device, entry.n)) if entry.n else None
    if row is None:
        return None
    same = row.author == entry.author and same_value(row.body, _encode(entry.body))
    change.rows.append(row)
    if row.tag != ERASED and not same:
        return ChangeResult(change.result(VerdictCode.CONFLICT).verdict)
    after = dialog.find(row.seq + 1)
    if row.tag in _MAY_BRING_AN_HEIR and after is not None and after.n == 0 and after.tag == tag_of(b.Promoted):
        change.rows.append(after)
    return change.result(_DUPLICATE)


def _may_join(dialog: Dialog, entry: ChangeEntry) -> bool:
    joins = isinstance(entry.body, b.MembersAdded) and entry.body.members == [entry.author]
    return joins and dialog.look.settings.is_public


def _judge_subjects(database: Database, subjects: Sequence[bytes]) -> VerdictCode:
    known = all(database.principals.get(each, PrincipalType.SERVICE) is not PrincipalType.SERVICE for each in subjects)
    return _OK if known else VerdictCode.PRINCIPAL_NOT_FOUND


def _create(change: _Change, body: b.DialogCreated) -> ChangeResult:
    database, entry = change.database, change.entry
    rule = Dialog(entry.dialog, body.type, body.mode, body).rule
    members = [each.principal for each in body.members]
    code = VerdictCode.MEMBERS_BOUND
    if rule.members_min <= len(members) <= rule.members_max:
        code = _judge_subjects(database, members)
    if code is _OK and body.mode is Mode.SEALED and not rule.fixed_roster and body.signature is None:
        code = VerdictCode.SIGNATURE_REQUIRED
    if code is not _OK or change.dialog is not None:
        if change.dialog is not None and (first := _find_first_ack(change)) is not None:
            return first
        return _there_already(change, body) or change.result(code if code is not _OK else _NOT_FOUND)
    dialog = change.dialog = database.dialogs[entry.dialog] = Dialog(entry.dialog, body.type, body.mode, body)
    row = change.append(body)
    dialog.members = {each.principal: Membership(each.role, [(1, 0)], row.seq, change.xid) for each in body.members}
    return change.result(_OK)


def _there_already(change: _Change, body: b.DialogCreated) -> ChangeResult | None:
    """A `self` or direct dialog that exists is the answer to its creation."""
    dialog, entry = change.dialog, change.entry
    if dialog is None or body.type not in (DialogType.SELF, DialogType.DIRECT) or dialog.role_of(entry.author) is None:
        return None
    change.rows.append(dialog.rows[0])
    found = change.result(_DUPLICATE)
    repeats = (dialog.rows[0].device, dialog.rows[0].n) == (entry.device, entry.n)
    return found if repeats else ChangeResult(found.verdict)


def _judge_addition(change: _Change, body: b.MembersAdded) -> VerdictCode:
    dialog, entry = change.head, change.entry
    joins = body.members == [entry.author]
    role = dialog.role_of(entry.author)
    if dialog.rule.fixed_roster:
        return VerdictCode.FIXED_ROSTER
    if joins and role is None and not _may_join(dialog, entry):
        return _NOT_FOUND
    if not joins and role is not Role.ADMIN:
        return VerdictCode.ROLE_REQUIRED
    if any(dialog.role_of(each) is not None for each in body.members):
        return VerdictCode.ALREADY_MEMBER
    if dialog.member_count + len(body.members) > dialog.rule.members_max:
        return VerdictCode.MEMBERS_BOUND
    code = _judge_signed(change, body.signed, dialog.keys_seq)  # nobody is invited here
    return code if code is not _OK else _judge_subjects(change.database, body.members)


def _add(change: _Change) -> VerdictCode:
    dialog, body = change.head, change.entry.body
    assert isinstance(body, b.MembersAdded)
    if (code := _judge_addition(change, body)) is not _OK:
        return code
    before = dialog.member_count
    row = change.append(body)
    for who in body.members:
        _let_in(change, who, row.seq)
    dialog.roster_seq = dialog.keys_seq = row.seq
    if not before:
        _set_role(change, change.entry.author, Role.ADMIN)
        change.append(b.Promoted(change.entry.author), n=0)
    return _OK


def _let_in(change: _Change, who: bytes, seq: int) -> None:
    dialog = change.head
    visible = [(seq, 0)]
    if dialog.rule.full_history:
        visible = [(1, 0)]
    elif who in dialog.members:
        visible = [*dialog.members[who].visible, (seq, 0)][-VISIBLE_INTERVALS_MAX:]
    messages = dialog.messages
    dialog.members[who] = Membership(
        Role.MEMBER, visible, seq, change.xid, delivered=seq, read=seq, read_messages=messages
    )


def _remove(change: _Change) -> VerdictCode:
    body = change.entry.body
    assert isinstance(body, b.MemberRemoved)
    code = _judge_over_member(change, body.member)
    if code is _OK and body.member == change.entry.author:
        code = VerdictCode.NOT_MEMBER
    if code is _OK:
        row = change.append(body)
        _end_membership(change, body.member, row.seq)
    return code


def _leave(change: _Change) -> VerdictCode:
    dialog, author = change.head, change.entry.author
    if dialog.rule.fixed_roster:
        return VerdictCode.FIXED_ROSTER
    heir = None
    if change.me.role is Role.ADMIN and dialog.admin_count == 1:
        others = [(m.from_seq, who) for who, m in dialog.members.items() if m.member and who != author]
        heir = min(others)[1] if others else None
    row = change.append(b.MemberLeft())
    _end_membership(change, author, row.seq)
    if heir is not None:
        _set_role(change, heir, Role.ADMIN)
        change.append(b.Promoted(heir), n=0)
    return _OK


def _promote(change: _Change) -> VerdictCode:
    body = change.entry.body
    assert isinstance(body, b.Promoted)
    code = _judge_over_member(change, body.member)
    if code is _OK:
        code = _judge_signed(change, body.signed)
    if code is _OK:
        change.append(body)
        _set_role(change, body.member, Role.ADMIN)
    return code


def _demote(change: _Change) -> VerdictCode:
    body, dialog = change.entry.body, change.head
    assert isinstance(body, b.Demoted)
    code = _judge_over_member(change, body.member)
    if code is _OK and dialog.role_of(body.member) is Role.ADMIN and dialog.admin_count == 1:
        code = VerdictCode.LAST_ADMIN
    if code is _OK:
        change.append(body)
        _set_role(change, body.member, Role.MEMBER)
    return code


def _change_settings(change: _Change) -> VerdictCode:
    body = change.entry.body
    assert isinstance(body, b.SettingsChanged)
    if body.settings.message_retention_days:
        raise NotSimulatedError("a retention")
    if change.me.role is not Role.ADMIN:
        return VerdictCode.ROLE_REQUIRED
    if body.settings.is_public and change.head.mode is Mode.SEALED:
        return VerdictCode.NOT_ALLOWED
    change.append(body)
    change.head.look = body
    return _OK


def _delete(change: _Change) -> VerdictCode:
    body, dialog = change.entry.body, change.head
    assert isinstance(body, b.Deleted)
    target = dialog.find(body.target)
    if target is None or target.tag != POSTED or not change.me.sees(target.seq):
        return VerdictCode.EVENT_NOT_FOUND
    if target.author != change.entry.author and change.me.role is not Role.ADMIN:
        return VerdictCode.EVENT_NOT_FOUND
    posted = decode_body(target.body)
    assert isinstance(posted, b.Posted)
    if change.now_ms < target.at_ms + KINDS[posted.kind].kept_days_min * DAY_MS:
        return VerdictCode.NOT_ALLOWED
    change.append(body, target=target.seq)
    change.database.erase(dialog.dialog, target)
    change.database.erasures.append((dialog.dialog, target.seq))
    return _OK


def _judge_signed(change: _Change, signed: b.Signed | None, keys_seq: int | None = None) -> VerdictCode:
    """Whether what a sealed dialog needs is signed; at this `keys_seq`, if one is given."""
    if change.head.mode is not Mode.SEALED:
        return _OK
    if signed is None:
        return VerdictCode.SIGNATURE_REQUIRED
    return _OK if keys_seq in (None, signed.keys_seq) else VerdictCode.STALE


def _judge_over_member(change: _Change, member: bytes) -> VerdictCode:
    if change.head.rule.fixed_roster:
        return VerdictCode.FIXED_ROSTER
    if change.me.role is not Role.ADMIN:
        return VerdictCode.ROLE_REQUIRED
    return VerdictCode.NOT_MEMBER if change.head.role_of(member) is None else _OK


def _end_membership(change: _Change, who: bytes, seq: int) -> None:
    dialog = change.head
    member = dialog.members[who]
    member.member, member.role, member.xid = False, Role.MEMBER, change.xid
    member.visible = [*member.visible[:-1], (member.visible[-1][0], seq)]
    dialog.roster_seq = dialog.keys_seq = seq


def _set_role(change: _Change, who: bytes, role: Role) -> None:
    member = change.head.members[who]
    member.role, member.xid = role, change.xid


CHANGES: dict[type[b.Body], Callable[[_Change], VerdictCode]] = {
    b.DialogCreated: lambda _change: _OK,
    b.MembersAdded: _add,
    b.MemberRemoved: _remove,
    b.MemberLeft: _leave,
    b.Promoted: _promote,
    b.Demoted: _demote,
    b.SettingsChanged: _change_settings,
    b.Deleted: _delete,
}
"""The changes that are simulated."""

_MAY_BRING_AN_HEIR = (tag_of(b.MemberLeft), tag_of(b.MembersAdded))
