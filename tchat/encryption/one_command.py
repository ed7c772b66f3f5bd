"""The commands of one part of the encryption, one at a time.

It is asked for one with each message that arrives, and to look for one reads the store. So it looks again only when the
last one was answered, something about people has changed, or its part says so.
"""

from __future__ import annotations

from collections.abc import Callable

from protocol.command_rules import Command
from tchat.crypto.people import People


class OneCommand:
    """What is under way. `find` gives the next command, or None."""

    def __init__(self, people: People, find: Callable[[], Command | None]) -> None:
        self._people = people
        self._find = find
        self._under_way: Command | None = None
        self._idle: tuple[int, int] | None = None
        """Changes and decisions of `People` as of which there was none."""

    def due(self) -> list[Command]:
        """The command to send now, once."""
        now = self._people.changes, self._people.decisions
        if self._under_way is not None or self._idle == now:
            return []
        self._under_way = self._find()
        self._idle = now if self._under_way is None else None
        return [] if self._under_way is None else [self._under_way]

    def end(self, command: Command) -> bool:
        """End the command under way, which was answered; False if it is another one."""
        if command is not self._under_way:
            return False
        self._under_way = None
        return True

    def look_again(self) -> None:
        """There may be something to send that there was not before."""
        self._idle = None

    def disconnected(self) -> None:
        """What is under way will not be answered."""
        self._under_way = self._idle = None
