"""A sender's own order, kept over refusals.

A number that was refused for now will come again. Were a later number of the same timeline accepted before it, the
timeline would have the two in the wrong order, and the first could never be stored any more (`number_passed`). So
until the refused number comes, later ones of its timeline are refused as well.
"""

from __future__ import annotations

from protocol.commands import (
    Add,
    AnyCommand,
    Block,
    ChangeSettings,
    Delete,
    Demote,
    Edit,
    Leave,
    Mute,
    Promote,
    React,
    Remove,
    Send,
    Unblock,
)
from protocol.ids import self_dialog_id

_IN_A_DIALOG = (Send, Edit, React, Delete, Add, Remove, Leave, Promote, Demote, ChangeSettings)
_IN_SELF = (Mute, Block, Unblock)


class SenderOrder:
    """Which number of which timeline must come next, where one was refused. `len` is the number of such timelines."""

    __slots__ = ("_first",)

    def __init__(self) -> None:
        self._first: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._first)

    def refused(self, command: AnyCommand, principal: bytes) -> None:
        """Note that a command was refused for now."""
        numbered = _numbered(command, principal)
        if numbered is not None:
            dialog, n = numbered
            self._first[dialog] = min(n, self._first.get(dialog, n))

    def must_come_first(self, command: AnyCommand, principal: bytes) -> int | None:
        """The refused number that must come before this command, if there is one."""
        if not self._first or (numbered := _numbered(command, principal)) is None:
            return None
        dialog, n = numbered
        first = self._first.get(dialog, n)
        if n > first:
            return first
        if n == first:  # an older number changes nothing
            self._first.pop(dialog, None)
        return None


def _numbered(command: AnyCommand, principal: bytes) -> tuple[bytes, int] | None:
    """The timeline and the number of a command, if it has them (a new dialog has nothing later yet)."""
    if isinstance(command, _IN_A_DIALOG):
        return command.dialog, command.n
    if isinstance(command, _IN_SELF):
        return self_dialog_id(principal), command.n
    return None
