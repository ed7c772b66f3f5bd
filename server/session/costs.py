"""What a command costs of its session's rate: more where little to ask is much to do."""

from __future__ import annotations

from protocol.commands import Add, AnyCommand, Create, History, PresenceSubscribe, Roster, Typing

_TYPING = 4
"""Told to as many as a hundred members, and worth nothing a moment later."""


def cost(command: AnyCommand) -> int:
    """At least 1; the divisors are about how many rows take as long as a command that touches one."""
    match command:
        case History() | Roster():
            return 1 + command.limit // 50
        case PresenceSubscribe():
            return 1 + len(command.principals) // 20
        case Create() | Add():
            return 1 + len(command.members) // 10
        case Typing():
            return _TYPING
    return 1
