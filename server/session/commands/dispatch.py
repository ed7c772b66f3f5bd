"""The handler of each command, found by its name.

A family is an object whose methods are handlers: the method that is called like the tag of a command (`send`,
`presence_subscribe`) handles that command. A command without a method of its own that appends a body is handled by
`Changes.append`, which builds the body from the command's fields.
"""

from __future__ import annotations

from collections.abc import Mapping

from protocol.command_rules import Command
from protocol.commands import COMMANDS
from protocol.json_forms import tag_name
from server.session.commands.changes import Changes
from server.session.session import Handler


def find_handlers(changes: Changes, *families: object) -> Mapping[type[Command], Handler]:
    """The handler of every command; `LookupError` names a command without one, or with two."""
    found: dict[type[Command], Handler] = {}
    for command in COMMANDS:
        name = tag_name(command)
        own: list[Handler] = [getattr(family, name) for family in (changes, *families) if hasattr(family, name)]
        if not own and command.rule.appends is not None and not command.rule.pipelined:
            own = [changes.append]
        if len(own) != 1:
            raise LookupError(f"the command `{name}` has {len(own)} handlers")
        found[command] = own[0]
    return found
