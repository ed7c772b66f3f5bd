"""The client that people install and import: `from tchat import Client`.

`core` and the modules it uses are a state machine without I/O, `shell` runs it on anyio and websockets, `fold` turns
events into what a person sees, `terminal` is `tchat chat`. Commands, replies and events are those of `protocol`.
"""

from __future__ import annotations

import importlib
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
    from tchat.bot import Bot
    from tchat.bot_handlers import Context, MessageContext
    from tchat.shell import Client

__all__ = [
    "Bot",
    "Client",
    "ClientError",
    "ConnectionState",
    "Context",
    "GivenUpError",
    "MemoryOutbox",
    "MessageContext",
    "OutboxFullError",
    "RefusedError",
    "RequestLostError",
    "SignInRequiredError",
    "SqliteOutbox",
    "StoppedError",
    "TokenUnavailableError",
    "TooManyRequestsError",
]


_IMPORTED_ON_FIRST_USE = {
    "Bot": "tchat.bot",
    "Client": "tchat.shell",
    "Context": "tchat.bot_handlers",
    "MessageContext": "tchat.bot_handlers",
}


def __getattr__(name: str) -> object:
    """Import `Client` and `Bot` on first use: their libraries would double the time that `tchat chat --help` takes."""
    if name in _IMPORTED_ON_FIRST_USE:
        return getattr(importlib.import_module(_IMPORTED_ON_FIRST_USE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
