"""Content: send, edit, react. Checked for form here, judged by the flush, answered after its commit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from protocol.bodies import Edited, Posted, Reacted
from protocol.commands import Edit, React, Send
from protocol.errors import ErrorCode
from protocol.kinds import KINDS
from protocol.replies import Acked
from server.refusals import ERROR_OF
from storage.rows import Entry, Verdict, VerdictCode

if TYPE_CHECKING:
    from server.session import Session

_encode = msgspec.msgpack.Encoder().encode
_RETRY_AFTER_S = 1.0


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
    dialog, n = command.dialog, command.n
    refused = session.refused
    if dialog in refused:
        if n > refused[dialog]:
            session.fail(
                command.id,
                ErrorCode.UNAVAILABLE,
                f"number {refused[dialog]} of this dialog comes first",
                retry_after_s=0.0,
            )
            return
        del refused[dialog]
    entry = Entry(
        dialog=dialog,
        author=claims.principal,
        device=claims.device,
        n=n,
        tag=tag,
        body=body,
        counts=counts,
        target=target,
        keys_seq=keys_seq,
        expires_at_ms=expires_at_ms,
    )
    session.in_flight += 1
    session.services.pipeline.submit(entry, lambda verdict: _answer(session, command.id, dialog, n, verdict))


def _answer(session: Session, request_id: int, dialog: bytes, n: int, verdict: Verdict) -> None:
    code = verdict.code
    if code is VerdictCode.OK or code is VerdictCode.DUPLICATE:
        session.push(Acked(request_id, dialog, n, verdict.seq, verdict.at_ms, verdict.messages))
    elif code is VerdictCode.STALE:
        session.refuse_for_now(dialog, n)
        session.fail(request_id, ErrorCode.STALE, keys_seq=verdict.keys_seq)
    elif code is VerdictCode.UNAVAILABLE or code is VerdictCode.BUSY:
        session.refuse_for_now(dialog, n)
        session.fail(request_id, ErrorCode.UNAVAILABLE, retry_after_s=_RETRY_AFTER_S)
    else:
        session.fail(request_id, ERROR_OF[code])
    session.verdict_taken()
