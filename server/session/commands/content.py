"""Content: send, edit, react. Checked for form here, judged by the flush, answered after its commit."""

from __future__ import annotations

from functools import partial

import msgspec

from protocol.bodies import Body, Edited, Posted, Reacted, tag_of
from protocol.commands import Edit, React, Send
from protocol.errors import ErrorCode
from protocol.kinds import KINDS
from server.session.session import Session
from server.writing.pipeline import Pipeline
from storage.rows import Entry, Verdict

_encode = msgspec.msgpack.Encoder().encode
_TAGS: dict[type[Body], int] = {body: tag_of(body) for body in (Posted, Edited, Reacted)}


class Content:
    """Handlers of the pipelined commands."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    def send(self, session: Session, command: Send) -> None:
        """Post an envelope."""
        rule = KINDS[command.kind]
        if not rule.by_members:
            session.fail(command.id, ErrorCode.NOT_ALLOWED, f"`{command.kind.name.lower()}` is for services")
            return
        header = command.header
        self._submit(
            session,
            command,
            Posted(command.kind, header, command.payload),
            counts=rule.counts_unread,
            target=header.reply_to,
            keys_seq=header.keys_seq,
            expires_at_ms=header.expires_at_ms,
        )

    def edit(self, session: Session, command: Edit) -> None:
        """Replace the envelope of one's own message."""
        body = Edited(command.target, command.payload, command.header)
        self._submit(session, command, body, target=command.target, keys_seq=command.header.keys_seq)

    def react(self, session: Session, command: React) -> None:
        """Set or withdraw one's reaction."""
        self._submit(session, command, Reacted(command.target, command.payload), target=command.target)

    def _submit(
        self,
        session: Session,
        command: Send | Edit | React,
        body: Body,
        *,
        target: int | None,
        counts: bool = False,
        keys_seq: int | None = None,
        expires_at_ms: int | None = None,
    ) -> None:
        claims = session.claims
        entry = Entry(
            dialog=command.dialog,
            author=claims.principal,
            device=claims.device,
            n=command.n,
            tag=_TAGS[type(body)],
            body=_encode(body),
            counts=counts,
            target=target,
            keys_seq=keys_seq,
            expires_at_ms=expires_at_ms,
        )
        session.start_send()
        self._pipeline.submit(entry, partial(_answer, session, command))


def _answer(session: Session, command: Send | Edit | React, verdict: Verdict) -> None:
    session.answer(command, command.dialog, verdict)
    session.finish_send()
