"""Content: send, edit, react. Checked for form here, judged by the flush, answered after its commit; or given up."""

from __future__ import annotations

from functools import partial

from protocol.bodies import Edited, Posted, Reacted
from protocol.commands import Edit, React, Send, Skip
from protocol.errors import ErrorCode
from protocol.kinds import KINDS
from server.entries import make_entry
from server.session.session import Session
from server.writing.pipeline import Pipeline
from storage.rows import Verdict

_BY_MEMBERS = tuple(kind for kind, rule in KINDS.items() if rule.by_members)


class Content:
    """Handlers of the pipelined commands, and of the one that gives up a number."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    def send(self, session: Session, command: Send) -> None:
        """Post an envelope."""
        if command.kind not in _BY_MEMBERS:
            session.fail(command.id, ErrorCode.NOT_ALLOWED, f"`{command.kind.name.lower()}` is for services")
            return
        self._submit(session, command, Posted(command.kind, command.header, command.payload))

    def edit(self, session: Session, command: Edit) -> None:
        """Replace the envelope of one's own message."""
        self._submit(session, command, Edited(command.target, command.payload, command.header))

    def react(self, session: Session, command: React) -> None:
        """Set or withdraw one's reaction."""
        self._submit(session, command, Reacted(command.target, command.payload, command.header))

    def skip(self, session: Session, command: Skip) -> None:
        """Let later numbers pass a refused one."""
        session.give_up(command.dialog, command.awaited_n)
        session.done(command.id)

    def _submit(self, session: Session, command: Send | Edit | React, body: Posted | Edited | Reacted) -> None:
        header = command.header
        if header.session is not None and header.commitment is None:
            text = "a sealed message has a `header.commitment`: without it nobody could report it"
            session.fail(command.id, ErrorCode.INVALID_ARGUMENT, text)
            return
        claims = session.claims
        entry = make_entry(command.dialog, claims.principal, claims.device, command.n, body)
        session.start_send()
        self._pipeline.submit(entry, partial(_answer, session, command))


def _answer(session: Session, command: Send | Edit | React, verdict: Verdict) -> None:
    session.answer(command, command.dialog, verdict)
    session.finish_send()
