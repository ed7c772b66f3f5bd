"""What delivery pushes to. A session implements it; delivery knows nothing else of sessions."""

from __future__ import annotations

from typing import Protocol

from protocol.close_codes import CloseCode
from server.delivery.outbox import Outbox


class Subscriber(Protocol):
    """One device of a principal, connected and synced. Hashable by identity."""

    @property
    def principal(self) -> bytes:
        """Who receives."""
        ...

    @property
    def device(self) -> bytes:
        """The device of the connection; a device has one connection."""
        ...

    @property
    def sign_in(self) -> bytes:
        """The sign-in that the connection began with."""
        ...

    @property
    def outbox(self) -> Outbox:
        """Where events are queued."""
        ...

    def close(self, code: CloseCode, reason: str = "") -> None:
        """Close the connection: what is queued is written first if the socket takes it."""
        ...
