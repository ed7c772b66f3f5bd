"""What identity needs from the rest of the node, which the node connects to delivery and to writing."""

from __future__ import annotations

from typing import Protocol

from protocol.close_codes import CloseCode
from storage.rows import ChangeEntry, Entry, Verdict


class SessionsControl(Protocol):
    """Closes live sessions at once. Later connections are refused by the store."""

    def end_sign_in(self, principal: bytes, sign_in: bytes, close_code: CloseCode, reason: str) -> None:
        """Close every session of a sign-in of a principal."""
        ...

    def end_principal(self, principal: bytes, close_code: CloseCode, reason: str) -> None:
        """Close every session of a principal."""
        ...


class Appender(Protocol):
    """The write pipeline. An entry with the verdict OK or DUPLICATE is durable."""

    async def append(self, entry: Entry | ChangeEntry) -> Verdict:
        """Append a content event, or apply a change."""
        ...
