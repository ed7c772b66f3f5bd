"""Nodes of one process: messages and presence in memory, for tests of several nodes and for the simulation."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence

from storage.bus import MESSAGE_BYTES_MAX, Bus, ConnectionKey, Located, PresenceStore

Deliver = Callable[[bytes], None]

_UNREAD_BYTES_MAX = 33_554_432


class LocalBus(Bus):
    """All nodes share one. What is published is delivered in the next turn of the loop."""

    def __init__(self) -> None:
        self._receivers: dict[int, tuple[Deliver, Callable[[], None]]] = {}
        self._unread: list[tuple[int, bytes]] = []
        self._unread_bytes = 0

    def publish(self, target: int, message: bytes) -> bool:
        too_long = len(message) > MESSAGE_BYTES_MAX or self._unread_bytes > _UNREAD_BYTES_MAX
        if too_long or target not in self._receivers:
            return False
        if not self._unread:
            asyncio.get_running_loop().call_soon(self._deliver)
        self._unread.append((target, message))
        self._unread_bytes += len(message)
        return True

    async def receive(self, incarnation: int, deliver: Deliver, interrupted: Callable[[], None]) -> None:
        self._receivers[incarnation] = deliver, interrupted
        interrupted()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            del self._receivers[incarnation]

    def lose(self) -> None:
        """Lose what is under way, as a bus may whose connections are cut."""
        self._unread, self._unread_bytes = [], 0
        for _, interrupted in self._receivers.values():
            interrupted()

    def _deliver(self) -> None:
        unread, self._unread, self._unread_bytes = self._unread, [], 0
        for target, message in unread:
            if target in self._receivers:
                self._receivers[target][0](message)


class LocalPresence(PresenceStore):
    """All nodes share one. `away`: it does not answer."""

    def __init__(self) -> None:
        self.away = False
        self._keys: dict[bytes, set[ConnectionKey]] = {}
        self._wipes = itertools.count(1)
        self._token = ""
        self.wipe()

    async def put(self, keys: Sequence[ConnectionKey]) -> str:
        if not self.away:
            for key in keys:
                self._keys.setdefault(key.principal, set()).add(key)
        return await self.read_token()

    def remove(self, keys: Sequence[ConnectionKey]) -> None:
        for key in () if self.away else keys:
            self._keys.get(key.principal, set()).discard(key)

    async def locate(self, principals: Sequence[bytes]) -> Located:
        nodes = [
            [] if self.away else sorted({key.incarnation for key in self._keys.get(principal, ())})
            for principal in principals
        ]
        return Located(nodes, await self.read_token())

    async def read_token(self) -> str:
        return "" if self.away else self._token

    def wipe(self) -> None:
        """Forget everything, as a store that was restarted empty."""
        self._keys.clear()
        self._token = f"memory.{next(self._wipes)}"
