"""The client that people install and import: `from tchat import Client`.

`core` and the modules it uses are a state machine without I/O, `shell` runs it on anyio and websockets, `fold` turns
events into what a person sees, `terminal` is `tchat chat`.
"""

from tchat.actions import ClientError, RefusedError, SignInRequiredError, StoppedError
from tchat.shell import Client, TokenUnavailableError
from tchat.store import MemoryOutbox, OutboxFullError, SqliteOutbox

__all__ = [
    "Client",
    "ClientError",
    "MemoryOutbox",
    "OutboxFullError",
    "RefusedError",
    "SignInRequiredError",
    "SqliteOutbox",
    "StoppedError",
    "TokenUnavailableError",
]
