"""The states of a session as a client sees them; the `rule` of a command says in which of them it is allowed.

    connected --authenticate--> authenticated --sync--> live --close--> (closed)

A session is LIVE from the moment its `sync` is accepted: catch-up and live events are one state to a client,
because a slow one may be sent back to catch-up at any time. A command outside its states is refused with
`wrong_state` and changes nothing. A second `sync` is never allowed: to start again, a client reconnects.
"""

from __future__ import annotations

import enum


class SessionState(enum.Enum):
    """How far a connection has come."""

    CONNECTED = "connected"
    AUTHENTICATED = "authenticated"
    LIVE = "live"
