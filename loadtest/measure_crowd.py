"""The people of a measurement: creates them, connects them, and creates their dialogs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import IPv4Address
from typing import TypeVar

from loadtest.measure_client import LeanClient, LoadError
from loadtest.measure_server import Server
from loadtest.measure_stage import Meter, Stage
from loadtest.measure_talk import Place
from protocol.commands import Create
from protocol.dialog_types import DialogType, Mode
from protocol.ids import created_dialog_id, direct_dialog_id

_AT_ONCE = 32
_PER_ADDRESS = 500
"""From one loopback address: ports of ended connections stay taken for a minute, and the kernel searches longer."""

_FIRST_ADDRESS = IPv4Address("127.0.1.1")

T = TypeVar("T")


class Crowd:
    """All people of a measurement."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._count = 0
        self._connects = 0
        self._troubles: list[str] = []

    def create_clients(self, count: int, name: str = "person") -> list[LeanClient]:
        """New people with one device each, not connected yet; `name` tells crowds of one deployment apart."""
        first, self._count = self._count, self._count + count
        return [LeanClient(self._server.token(f"{name}-{first + i}"), self._troubles.append) for i in range(count)]

    def check(self) -> None:
        """Raise LoadError if a connection failed outside of a call."""
        if self._troubles:
            raise LoadError(f"{len(self._troubles)} connections failed, first: {self._troubles[0]}")

    async def connect(self, clients: Sequence[LeanClient]) -> Stage:
        """Connect, authenticate and sync all of them."""
        meter = Meter(self._server)
        await _each(clients, self._connect)
        return meter.stop(len(clients))

    async def disconnect(self, clients: Sequence[LeanClient]) -> None:
        """Abort their connections."""
        await _each(clients, lambda client: client.disconnect())

    async def reconnect(self, clients: Sequence[LeanClient], seconds: float) -> Stage:
        """Abort their connections and resume, in turn, repeatedly for so many seconds."""
        done, until = 0, time.perf_counter() + seconds

        async def again(client: LeanClient) -> None:
            nonlocal done
            if time.perf_counter() < until:
                await client.disconnect()
                await self._connect(client)
                done += 1

        meter = Meter(self._server)
        while time.perf_counter() < until:
            await _each(clients, again)
        return meter.stop(done)

    async def pair_up(self, clients: Sequence[LeanClient]) -> list[Place]:
        """Create a direct dialog for every two of them, in which both write."""
        places: list[Place] = []

        async def create(pair: tuple[LeanClient, LeanClient]) -> None:
            one, other = pair
            await one.ask(Create(1, one.next_n(), DialogType.DIRECT, [other.principal], mode=Mode.OPEN))
            dialog = direct_dialog_id(one.principal, other.principal)
            places.extend([(one, dialog), (other, dialog)])

        await _each(list(zip(clients[::2], clients[1::2], strict=True)), create)
        return places

    async def fill_rooms(self, clients: Sequence[LeanClient], size: int) -> list[list[Place]]:
        """Create groups of `size`; returns the places of each."""
        rooms = []
        for at in range(0, len(clients), size):
            first, *others = members = clients[at : at + size]
            n = first.next_n()
            await first.ask(
                Create(1, n, DialogType.GROUP, [client.principal for client in others], "a room", mode=Mode.OPEN)
            )
            rooms.append([(client, created_dialog_id(first.device, n)) for client in members])
        return rooms

    async def _connect(self, client: LeanClient) -> None:
        address = _FIRST_ADDRESS + self._connects // _PER_ADDRESS
        self._connects += 1
        await client.connect(self._server.port, str(address))


async def _each(items: Sequence[T], act: Callable[[T], Awaitable[None]]) -> None:
    """Call `act` for each item, in order, a few at once."""
    waiting = iter(items)

    async def work() -> None:
        for item in waiting:
            await act(item)

    await asyncio.gather(*(work() for _ in range(_AT_ONCE)))
