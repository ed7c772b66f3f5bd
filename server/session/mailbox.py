"""The commands of one session that wait to be handled, in order.

Bounded in number and in bytes: above a bound the connection is not read, and it is read again at half of it. A session
has a mailbox of its own only while something waits: otherwise it has `NOTHING_WAITS`, as all others.
"""

from __future__ import annotations

from protocol.commands import AnyCommand
from server.gateway.connection import Connection


class Mailbox:
    """The mailbox of one session."""

    __slots__ = ("commands", "reading", "size")

    def __init__(self) -> None:
        self.reading = True
        """Whether the connection is read."""
        self.size = 0
        """Bytes of the commands, as they came."""
        # short, so a list: an empty deque would take 600 bytes
        self.commands: list[tuple[AnyCommand, int]] = []
        """Each with its bytes; not to be changed from outside."""

    def put(self, command: AnyCommand, size: int) -> Mailbox:
        """Add a command that came in a message of so many bytes; the mailbox that it is in."""
        self.commands.append((command, size))
        self.size += size
        return self

    def drop_first(self) -> None:
        """Take the next command out."""
        self.size -= self.commands.pop(0)[1]

    def clear(self) -> None:
        """Take all out."""
        self.commands.clear()
        self.size = 0

    def balance(self, connection: Connection, count_max: int, bytes_max: int) -> None:
        """Pause or resume the reading of the connection, as these bounds say."""
        waiting = len(self.commands)
        if self.reading and (waiting >= count_max or self.size >= bytes_max):
            self.reading = False
            connection.pause_reading()
        elif not self.reading and waiting <= count_max // 2 and self.size <= bytes_max // 2:
            self.reading = True
            connection.resume_reading()


class _SharedMailbox(Mailbox):
    """An empty one, for any number of sessions: nothing gets in."""

    __slots__ = ()

    def put(self, command: AnyCommand, size: int) -> Mailbox:
        return Mailbox().put(command, size)


NOTHING_WAITS: Mailbox = _SharedMailbox()
