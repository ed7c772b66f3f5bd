"""The states of a session as a client can see them, and which command is allowed in which.

    connected --authenticate--> authenticated --sync--> live --close--> (gone)

A session is LIVE from the moment its `sync` is accepted: catch-up and live events are one state to a client,
because a slow one may be sent back to catch-up at any time. A command outside its state is refused with
`wrong_state` and changes nothing. The table is checked to name every command.
"""

from __future__ import annotations

import enum
from typing import get_args

from protocol.commands import AnyCommand, Authenticate, Command, Heartbeat, SignOut, Sync


class SessionState(enum.Enum):
    """How far a connection has come."""

    CONNECTED = "connected"
    AUTHENTICATED = "authenticated"
    LIVE = "live"


_EVERY_COMMAND: frozenset[type[Command]] = frozenset(get_args(AnyCommand))

ALLOWED: dict[SessionState, frozenset[type[Command]]] = {
    SessionState.CONNECTED: frozenset({Authenticate, Heartbeat}),
    SessionState.AUTHENTICATED: frozenset({Authenticate, Heartbeat, Sync, SignOut}),
    SessionState.LIVE: _EVERY_COMMAND - {Sync},
}
"""`state x command`: what is not listed is refused with `wrong_state`. A second `sync` is never allowed: a client
that wants to begin again reconnects."""


def allowed(state: SessionState, command: type[Command]) -> bool:
    """Whether a session in this state takes this command."""
    return command in ALLOWED[state]
