"""Content: send, edit, react. Checked for form here, judged by the flush, answered after its commit."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import msgspec

from protocol.bodies import Edited, Posted, Reacted
from protocol.commands import Edit, React, Send
from protocol.errors import ErrorCode
from protocol.kinds import KINDS
from protocol.replies import Acked
from server.session.refusals import DURABLE, ERROR_OF, RETRY_AFTER_S
from storage.rows import Entry, Verdict, VerdictCode

if TYPE_CHECKING:
    from server.session.session import Session

_encode = msgspec.msgpack.Encoder().encode


def send(session: Session, command: Send) -> None:
    """Post an envelope."""
    if not KINDS[command.kind].by_members:
        session.fail(command.id, ErrorCode.NOT_ALLOWED, f"`{command.kind.name.lower()}` is for services")
        return
    header = command.header
    _submit(
        session,
        command,
        tag=1,
        body=_encode(Posted(command.kind, header, command.payload)),
        counts=KINDS[command.kind].counts_unread,
        target=header.reply_to,
        keys_seq=header.keys_seq,
        expires_at_ms=header.expires_at_ms,
    )


def edit(session: Session, command: Edit) -> None:
    """Replace the envelope of one's own message."""
    body = _encode(Edited(command.target, command.payload, command.header))
    _submit(session, command, tag=2, body=body, target=command.target, keys_seq=command.header.keys_seq)


def react(session: Session, command: React) -> None:
    """Set or withdraw one's reaction."""
    body = _encode(Reacted(command.target, command.payload))
    _submit(session, command, tag=4, body=body, target=command.target)


def _submit(
    session: Session,
    command: Send | Edit | React,
    *,
    tag: int,
    body: bytes,
    target: int | None,
    counts: bool = False,
    keys_seq: int | None = None,
    expires_at_ms: int | None = None,
) -> None:
    claims = session.claims
    assert claims is not None
    entry = Entry(
        dialog=command.dialog,
        author=claims.principal,
        device=claims.device,
        n=command.n,
        tag=tag,
        body=body,
        counts=counts,
        target=target,
        keys_seq=keys_seq,
        expires_at_ms=expires_at_ms,
    )
    session.in_flight += 1
    session.services.pipeline.submit(entry, partial(_answer, session, command))


def _answer(session: Session, command: Send | Edit | React, verdict: Verdict) -> None:
    code = verdict.code
    if code in DURABLE:
        session.push(Acked(command.id, command.dialog, command.n, verdict.seq, verdict.at_ms, verdict.messages))
    elif code is VerdictCode.STALE:
        session.refuse_for_now(command, ErrorCode.STALE, keys_seq=verdict.keys_seq)
    elif ERROR_OF[code].temporary:
        session.refuse_for_now(command, ERROR_OF[code], retry_after_s=RETRY_AFTER_S)
    else:
        session.fail(command.id, ERROR_OF[code])
    session.verdict_taken()
