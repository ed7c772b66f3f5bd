"""Admission: in one turn of the event loop, few connections get past their first head.

What follows a head (a handshake and its session, or an HTTP request and its handler) takes 0.1 to 0.4 ms. When hundreds
of clients connect at once, all of it in one turn would hold up everybody who talks.
"""

from collections import deque
from collections.abc import Callable

_PER_TURN = 8

CallSoon = Callable[[Callable[[], None]], object]
"""Runs a callback in the next turn of the event loop."""


class Admission:
    """Lets `_PER_TURN` enter in one turn; the others wait, each address in a line of its own.

    The addresses take turns, so a crowd from one holds up itself. At most one entry waits for each open connection.
    """

    def __init__(self, call_soon: CallSoon) -> None:
        self._call_soon = call_soon
        self._left = _PER_TURN
        self._lines: dict[str, deque[Callable[[], None]]] = {}

    def try_enter(self, address: str, later: Callable[[], None]) -> bool:
        """Whether a client of this address may go on now; otherwise `later` is called in its turn."""
        if not self._left:
            self._lines.setdefault(address, deque()).append(later)
            return False
        self._count()
        return True

    def _count(self) -> None:
        if self._left == _PER_TURN:
            self._call_soon(self._next_turn)
        self._left -= 1

    def _next_turn(self) -> None:
        self._left = _PER_TURN
        while self._lines and self._left:
            self._count()
            address = next(iter(self._lines))
            line = self._lines.pop(address)
            admit = line.popleft()
            if line:
                self._lines[address] = line
            admit()
