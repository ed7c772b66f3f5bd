"""One handler per command: `handle` finds it in the table.

A handler either finishes at once, or returns work that the session waits for before it takes the next command.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from protocol import commands as c
from server.session.commands import changes, content, entry, reads, signals

if TYPE_CHECKING:
    from server.session.session import Session

Handler = Callable[["Session", Any], Awaitable[None] | None]

TABLE: dict[type[c.Command], Handler] = {
    c.Authenticate: entry.authenticate,
    c.Sync: entry.sync,
    c.Heartbeat: entry.heartbeat,
    c.SignOut: entry.sign_out,
    c.Send: content.send,
    c.Edit: content.edit,
    c.React: content.react,
    c.Delete: changes.delete,
    c.Create: changes.create,
    c.Add: changes.add,
    c.Remove: changes.remove,
    c.Leave: changes.leave,
    c.Promote: changes.promote,
    c.Demote: changes.demote,
    c.ChangeSettings: changes.change_settings,
    c.Mute: changes.mute,
    c.Block: changes.block,
    c.Unblock: changes.unblock,
    c.History: reads.history,
    c.Roster: reads.roster,
    c.Receipt: signals.receipt,
    c.Typing: signals.typing,
    c.PresenceSubscribe: signals.presence_subscribe,
}


def handle(session: Session, command: c.AnyCommand) -> Awaitable[None] | None:
    """Handle a command that the session's state allows."""
    return TABLE[type(command)](session, command)
