"""The commands of one session that wait to be handled, in order.

Bounded in number and in bytes: above a bound the connection is not read, and it is read again at half of it.
"""

from __future__ import annotations

from protocol.commands import AnyCommand
from server.gateway.connection import Connection


class Mailbox:
    """The mailbox of the session on one connection."""

    __slots__ = ("_connection", "commands", "reading", "size")

    def __init__(self, connection: Connection) -> None:
        self.reading = True
        """Whether the connection is read."""
        self.size = 0
        """Bytes of the commands, as they came."""
        self._connection = connection
        # short, so a list: an empty deque would take 600 bytes in every session
        self.commands: list[tuple[AnyCommand, int]] = []
        """Each with its bytes; not to be changed from outside."""

    def put(self, command: AnyCommand, size: int) -> None:
        """Add a command that came in a message of so many bytes."""
        self.commands.append((command, size))
        self.size += size

    def drop_first(self) -> None:
        """Take the next command out."""
        self.size -= self.commands.pop(0)[1]

    def clear(self) -> None:
        """Take all out."""
        self.commands.clear()
        self.size = 0

    def balance(self, count_max: int, bytes_max: int) -> None:
        """Pause or resume the reading, as these bounds say."""
        waiting = len(self.commands)
        if self.reading and (waiting >= count_max or self.size >= bytes_max):
            self.reading = False
            self._connection.pause_reading()
        elif not self.reading and waiting <= count_max // 2 and self.size <= bytes_max // 2:
            self.reading = True
            self._connection.resume_reading()
