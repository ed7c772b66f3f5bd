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
    from tchat.commerce_api import CommerceApi
    from tchat.encryption.notices import NowReadable, Unreadable
    from tchat.memory_store import MemoryStore
    from tchat.sealed_store import SealedStore
    from tchat.shell import Client
    from tchat.store_key import FileKey, KeyringKey, PassphraseKey

__all__ = [
    "Bot",
    "Client",
    "ClientError",
    "CommerceApi",
    "ConnectionState",
    "Context",
    "FileKey",
    "GivenUpError",
    "KeyringKey",
    "MemoryOutbox",
    "MemoryStore",
    "MessageContext",
    "NowReadable",
    "OutboxFullError",
    "PassphraseKey",
    "RefusedError",
    "RequestLostError",
    "SealedStore",
    "SignInRequiredError",
    "SqliteOutbox",
    "StoppedError",
    "TokenUnavailableError",
    "TooManyRequestsError",
    "Unreadable",
]


_IMPORTED_ON_FIRST_USE = {
    "Bot": "tchat.bot",
    "Client": "tchat.shell",
    "CommerceApi": "tchat.commerce_api",
    "Context": "tchat.bot_handlers",
    "FileKey": "tchat.store_key",
    "KeyringKey": "tchat.store_key",
    "MemoryStore": "tchat.memory_store",
    "MessageContext": "tchat.bot_handlers",
    "NowReadable": "tchat.encryption.notices",
    "PassphraseKey": "tchat.store_key",
    "SealedStore": "tchat.sealed_store",
    "Unreadable": "tchat.encryption.notices",
}


def __getattr__(name: str) -> object:
    """Import these on first use: their libraries would double the time that `tchat chat --help` takes."""
    if name in _IMPORTED_ON_FIRST_USE:
        return getattr(importlib.import_module(_IMPORTED_ON_FIRST_USE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
