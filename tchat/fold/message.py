"""One message of a dialog as the fold holds it; its events may come in any order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from protocol.bodies import Edited, Header, Posted, TimelineEvent
from protocol.ids import NIL
from protocol.kinds import DAY_MS, KINDS


@dataclass(slots=True)
class Message:
    """One message, with the effects of later events. `author` is NIL while only later events are known."""

    seq: int
    author: bytes = NIL
    device: bytes = NIL
    n: int = 0
    at_ms: int = 0
    messages: int = 0
    posted: Posted | None = None
    edit: Edited | None = None
    edit_seq: int = 0
    deleted: bool = False
    erased: bool = False
    unreadable: str | None = None
    """Why the message is sealed and not opened, or not believed; its payload is empty then."""
    unreadable_edit: tuple[int, str] | None = None
    """An edit that is not shown: its `seq`, and why."""
    _reactions: dict[bytes, tuple[int, bytes]] = field(default_factory=dict)

    @property
    def known(self) -> bool:
        """Whether there is something to show: the message, or its deletion."""
        return self.posted is not None or self.deleted

    @property
    def payload(self) -> bytes:
        """The newest payload; empty if deleted."""
        newest = self.edit or self.posted
        return newest.payload if newest is not None else b""

    @property
    def header(self) -> Header:
        """The newest header; empty if deleted."""
        newest = self.edit or self.posted
        return newest.header if newest is not None else Header()

    @property
    def reactions(self) -> dict[bytes, bytes]:
        """The current reaction of each person."""
        return {who: payload for who, (_, payload) in self._reactions.items() if payload}

    def post(self, event: TimelineEvent, body: Posted) -> None:
        """Take the message itself."""
        self._set_origin(event)
        if not (self.deleted or self.erased):
            self.posted, self.unreadable = body, None

    def replace(self, seq: int, body: Edited) -> None:
        """Apply an edit; the highest `seq` wins."""
        if not (self.deleted or self.erased) and seq > self.edit_seq:
            self.edit, self.edit_seq = body, seq
            if self.unreadable_edit is not None and self.unreadable_edit[0] <= seq:
                self.unreadable_edit = None

    def react(self, seq: int, who: bytes, payload: bytes) -> None:
        """Apply a reaction; the newest of each person wins."""
        if not (self.deleted or self.erased) and seq > self._reactions.get(who, (0, b""))[0]:
            self._reactions[who] = (seq, payload)

    def delete(self) -> None:
        """Delete it for everybody; its place stays visible."""
        self.deleted = True
        self._blank()

    def erase(self, event: TimelineEvent) -> None:
        """Blank it: the event was a message, or an edit or reaction of a deleted one."""
        self._set_origin(event)
        self.expire()

    def expire(self) -> None:
        """Blank it: its time is over."""
        self.erased = True
        self._blank()

    def ends_at_ms(self, retention_days: int) -> int | None:
        """When the server erases it because of its age, in a dialog that keeps messages so long (0: always)."""
        if self.posted is None:
            return None
        rule = KINDS[self.posted.kind]
        ends = [self.at_ms + days * DAY_MS for days in (retention_days, rule.kept_days_max) if days]
        if self.posted.header.expires_at_ms is not None:
            ends.append(self.posted.header.expires_at_ms)
        return max(min(ends), self.at_ms + rule.kept_days_min * DAY_MS) if ends else None

    def canonical(self) -> Any:
        """Comparable plain data."""
        if self.posted is None:
            return "deleted"
        by = (self.posted.kind, self.posted.acting_for, self.posted.requester)
        content = msgspec.to_builtins((self.payload, self.header, *by))
        reactions = {who.hex(): payload for who, payload in sorted(self.reactions.items())}
        return [self.author.hex(), self.device.hex(), self.n, self.at_ms, content, self.edit_seq, reactions]

    def _set_origin(self, event: TimelineEvent) -> None:
        self.author, self.device, self.n = event.author, event.device, event.n
        self.at_ms, self.messages = event.at_ms, event.messages

    def _blank(self) -> None:
        self.posted = self.edit = self.unreadable = self.unreadable_edit = None
        self.edit_seq = 0
        self._reactions.clear()
