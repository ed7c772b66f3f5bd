"""A sender's own order, kept over refusals.

A number that was refused for now is sent again. If a later number of the same timeline were accepted before it, the
timeline would have the two in the wrong order, and the first could not be stored any more (`number_passed`). So until
the refused number comes, or is given up, later ones of its timeline are refused as well.
"""

from __future__ import annotations

from typing import cast

from protocol.command_rules import Command, Timeline
from protocol.commands import Numbered
from protocol.ids import NIL
from protocol.timeline_of import timeline_of


class SenderOrder:
    """Which number of which timeline must come next, where one was refused. `len` is the number of such timelines."""

    __slots__ = ("_first",)

    def __init__(self) -> None:
        self._first: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._first)

    def hold_back(self, command: Command, principal: bytes) -> int | None:
        """Note that a command was refused for now; the earlier refused number that must come before it, if any."""
        if (place := _place_of(command, principal)) is None:
            return None
        dialog, n = place
        first = self._first[dialog] = min(n, self._first.get(dialog, n))
        return first if first < n else None

    def give_up(self, dialog: bytes, n: int) -> None:
        """Await this refused number no longer; nothing happens if another one comes first."""
        if self._first.get(dialog) == n:
            del self._first[dialog]

    def first_refused(self, command: Command, principal: bytes) -> int | None:
        """The refused number that must come before this command, if there is one."""
        if not self._first or (place := _place_of(command, principal)) is None:
            return None
        dialog, n = place
        first = self._first.get(dialog, n)
        if n > first:
            return first
        if n == first:  # an older number changes nothing
            self._first.pop(dialog, None)
        return None


def _place_of(command: Command, principal: bytes) -> tuple[bytes, int] | None:
    """The timeline and the number of a command, if it has them (a new dialog has nothing later yet)."""
    rule = command.rule
    if rule.appends is None or rule.timeline is Timeline.CREATED:
        return None
    numbered = cast("Numbered", command)
    return timeline_of(numbered, principal, NIL), numbered.n  # the device counts for creations only
