"""What a node receives on a bus, for tests to look at."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Self

from storage.bus import Bus


class Received:
    """The messages of one incarnation, and how often receiving was interrupted."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.interruptions = 0
        self._changed = asyncio.Event()

    @classmethod
    @contextlib.asynccontextmanager
    async def on(cls, bus: Bus, incarnation: int) -> AsyncIterator[Self]:
        """Receive on a bus; nothing is lost from the first moment on."""
        received = cls()
        task = asyncio.ensure_future(bus.receive(incarnation, received.deliver, received.interrupted))
        try:
            await received.until(interruptions=1)
            yield received
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def until(self, *, messages: int = 0, interruptions: int = 0) -> list[bytes]:
        """Wait until so many messages have come, and so many interruptions; all messages so far."""
        async with asyncio.timeout(20):
            while len(self.messages) < messages or self.interruptions < interruptions:
                self._changed.clear()
                await self._changed.wait()
        return self.messages

    def deliver(self, message: bytes) -> None:
        self.messages.append(message)
        self._changed.set()

    def interrupted(self) -> None:
        self.interruptions += 1
        self._changed.set()
