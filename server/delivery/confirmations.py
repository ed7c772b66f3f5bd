"""What devices confirm to have: slices that need not be kept. A message in a large group is confirmed by all at once.

So what is confirmed while a statement runs goes with the next one, and the work of the database, and the wait of others
for its connections, do not grow with each device.

Invariants: of one node at most one statement runs; what is confirmed is in one that began afterwards. Bounds: a session
confirms one thing at a time; a statement takes what `_AT_ONCE` of them confirm.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from storage.shares import Shares
from storage.unavailable import StorageUnavailableError

_AT_ONCE = 500


class _Confirmed:
    """What a device confirms, and how that ended."""

    __slots__ = ("device", "done", "error", "numbers")

    def __init__(self, device: bytes, numbers: Sequence[int]) -> None:
        self.device = device
        self.numbers = numbers
        self.done = False
        self.error: StorageUnavailableError | None = None


class Confirmations:
    """The confirmations of the sessions here."""

    def __init__(self, shares: Shares) -> None:
        self._shares = shares
        self._turn = asyncio.Lock()
        self._waiting: deque[_Confirmed] = deque()

    async def confirm(self, device: bytes, numbers: Sequence[int]) -> None:
        """Return once it is stored that a device has these slices; raises StorageUnavailableError."""
        mine = _Confirmed(device, numbers)
        self._waiting.append(mine)
        async with self._turn:
            while not mine.done:
                await self._confirm_some()
        if mine.error is not None:
            raise mine.error

    async def _confirm_some(self) -> None:
        some = [self._waiting.popleft() for _ in range(min(_AT_ONCE, len(self._waiting)))]
        try:
            await self._shares.confirm([(each.device, number) for each in some for number in each.numbers])
        except StorageUnavailableError as error:
            for each in some:
                each.error = error
        except BaseException:
            self._waiting.extendleft(reversed(some))  # who began this has ended: another one does it again
            raise
        for each in some:
            each.done = True
