"""One write per connection and turn of the loop: outboxes that got something are flushed together."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from server.session.session import Session


class FlushTurn:
    """Collects sessions with something to write; `call_soon` is the loop's."""

    def __init__(self, call_soon: Callable[[Callable[[], None]], object]) -> None:
        self._call_soon = call_soon
        self._dirty: list[Session] = []

    def add(self, session: Session) -> None:
        """Flush this session's outbox at the end of this turn."""
        if not self._dirty:
            self._call_soon(self._flush)
        self._dirty.append(session)

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, []
        for session in dirty:
            session.flush()
