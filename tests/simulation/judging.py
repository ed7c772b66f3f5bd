"""What `flush` decides (`storage/postgres/functions/flush.sql`), on the rows in memory.

Called at the commit of a transaction that has locked the heads. It writes the same rows and gives the same verdicts.
Messages that expire are refused with NotSimulatedError; nobody is suspended or blocked here.
"""

from __future__ import annotations

from collections.abc import Sequence

from protocol.dialog_types import Mode, Role
from server.refusals import DURABLE, ERROR_OF
from storage.rows import Entry, PrincipalType, Verdict, VerdictCode
from tests.simulation.database import Database, Transaction
from tests.simulation.tables import EDITED, ERASED, POSTED, Dialog, NotSimulatedError, Row, decode_body

_OK, _DUPLICATE, _NOT_FOUND = VerdictCode.OK, VerdictCode.DUPLICATE, VerdictCode.NOT_FOUND
_MAY_STILL_BE_STORED = DURABLE | {VerdictCode.STALE, VerdictCode.NUMBER_PASSED}


def judge_content(database: Database, entries: Sequence[Entry], locked: set[bytes], by: Transaction) -> list[Verdict]:
    """Judge a batch, append what is accepted, and give the verdicts."""
    now_ms = database.clock.wall_ms()
    codes = [_judge_entry(database, entry, locked) for entry in entries]
    return [_answer(database, entry, code, by, now_ms) for entry, code in zip(entries, codes, strict=True)]


def refuses_for_good(verdict: Verdict) -> bool:
    """Whether nobody will send what was judged again, under this number or another one."""
    code = verdict.code
    return code not in _MAY_STILL_BE_STORED and not ERROR_OF[code].temporary


def may_know(database: Database, dialog: bytes, author: bytes) -> bool:
    """Whether an author has ever been a member of a dialog that exists, or is a service."""
    found = database.dialogs.get(dialog)
    return found is not None and (author in found.members or database.principals.get(author) is PrincipalType.SERVICE)


def _judge_entry(database: Database, entry: Entry, locked: set[bytes]) -> VerdictCode:
    if entry.expires_at_ms is not None:
        raise NotSimulatedError("messages that expire")
    if not may_know(database, entry.dialog, entry.author):
        return _NOT_FOUND
    dialog = database.dialogs[entry.dialog]
    if entry.dialog not in locked:
        return VerdictCode.BUSY
    stored = dialog.by_number.get((entry.device, entry.n))
    if stored is not None:
        same = (stored.tag, stored.author, stored.target) == (entry.tag, entry.author, entry.target)
        if _effective_tag(dialog, stored) == ERASED or (same and same_value(stored.body, entry.body)):
            return _DUPLICATE
        return VerdictCode.CONFLICT
    service = database.principals.get(entry.author) is PrincipalType.SERVICE
    role = dialog.role_of(entry.author)
    if role is None and not service:
        return _NOT_FOUND
    if entry.n <= dialog.last_n.get(entry.device, 0):
        return VerdictCode.NUMBER_PASSED
    if dialog.rule.admins_only_write and not service and role is not Role.ADMIN:
        return VerdictCode.ROLE_REQUIRED
    if dialog.mode is Mode.SEALED and entry.keys_seq is not None and entry.keys_seq != dialog.keys_seq:
        return VerdictCode.STALE
    return _judge_target(dialog, entry)


def _judge_target(dialog: Dialog, entry: Entry) -> VerdictCode:
    if entry.target is None:
        return _OK
    target, member = dialog.find(entry.target), dialog.members.get(entry.author)
    visible = target is not None and target.tag == POSTED and member is not None and member.sees(target.seq)
    if target is None or not visible or (entry.tag == EDITED and target.author != entry.author):
        return VerdictCode.EVENT_NOT_FOUND
    return _OK


def _answer(database: Database, entry: Entry, code: VerdictCode, by: Transaction, now_ms: int) -> Verdict:
    if code is _NOT_FOUND:
        return Verdict(code, at_ms=now_ms)
    dialog = database.dialogs[entry.dialog]
    if code is VerdictCode.BUSY:
        return Verdict(code, at_ms=now_ms)
    head = (dialog.member_count, dialog.roster_seq, dialog.keys_seq)
    if code is _DUPLICATE:
        row = dialog.by_number[entry.device, entry.n]
        erased = _effective_tag(dialog, row) == ERASED
        return Verdict(code, row.seq, row.at_ms, row.messages, *head, erased)
    if code is not _OK:
        return Verdict(code, 0, now_ms, 0, *head)
    row = append_row(
        dialog,
        by,
        now_ms,
        author=entry.author,
        device=entry.device,
        n=entry.n,
        tag=entry.tag,
        target=entry.target,
        body=entry.body,
        counts=entry.counts,
    )
    return Verdict(code, row.seq, now_ms, row.messages, *head)


def append_row(
    dialog: Dialog,
    by: Transaction,
    now_ms: int,
    *,
    author: bytes,
    device: bytes,
    n: int,
    tag: int,
    target: int | None,
    body: bytes,
    counts: bool = False,
) -> Row:
    """Append one row to a timeline whose head is locked."""
    stamp = max(by.xid, dialog.xid)
    messages = dialog.messages + counts
    row = Row(dialog.seq + 1, author, device, n, tag, target, now_ms, messages, body, stamp, by.incarnation)
    dialog.append(row)
    return row


def _effective_tag(dialog: Dialog, row: Row) -> int:
    return ERASED if dialog.hangs_on_erased(row) else row.tag


def same_value(one: bytes, other: bytes) -> bool:
    """Whether two bodies mean the same."""
    return one == other or bool(decode_body(one) == decode_body(other))
