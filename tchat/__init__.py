"""The client that people install and import: `from tchat import Client`.

`core` and the modules it uses are a state machine without I/O, `shell` runs it on anyio and websockets, `fold` turns
events into what a person sees, `terminal` is `tchat chat`. Commands, replies and events are those of `protocol`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat.actions import (
    ClientError,
    ConnectionState,
    GivenUpError,
    RefusedError,
    RequestLostError,
    SignInRequiredError,
    StoppedError,
    TokenUnavailableError,
    TooManyRequestsError,
)
from tchat.store import MemoryOutbox, OutboxFullError, SqliteOutbox

if TYPE_CHECKING:
    from tchat.shell import Client

__all__ = [
    "Client",
    "ClientError",
    "ConnectionState",
    "GivenUpError",
    "MemoryOutbox",
    "OutboxFullError",
    "RefusedError",
    "RequestLostError",
    "SignInRequiredError",
    "SqliteOutbox",
    "StoppedError",
    "TokenUnavailableError",
    "TooManyRequestsError",
]


def __getattr__(name: str) -> object:
    """Import `Client` on first use: its libraries would double the time that `tchat chat --help` takes."""
    if name == "Client":
        from tchat.shell import Client

        return Client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
