"""What attackers have in common: the target, raw connections, and a tally of what they did.

Attackers keep no rule of the protocol. They send as fast as the server takes it, from addresses of their own, and begin
again when they are refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec

from loadtest.lean_client import Address, LeanClient, LoadError
from protocol.codec import MSGPACK
from tests.support.fake_network import client_frame

_PAUSE_S = 0.02
_BINARY = 2
_UPGRADE = (
    b"GET /v1/ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: "
)
_REFUSED = (OSError, EOFError, LoadError)


class Target(msgspec.Struct, frozen=True):
    """The server under attack, and what an attacker knows of it."""

    port: int
    log: str
    """The server's log: in development it has the codes that are sent."""
    seconds: float
    seed: int
    number: int
    """Attackers at the same time use addresses and accounts of their own."""
    tokens: list[str]
    """Access tokens of the attacker's own people."""
    strangers: list[bytes]
    """People who have nothing to do with the attacker."""


class Report(msgspec.Struct):
    """What an attacker did."""

    bytes_per_s: int
    requests_per_s: int
    reached: str
    """How it reached a goal of its own; empty if it did not."""


class Attacker:
    """The means of an attack; `reached` says how it reached its goal."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.rng = random.Random(target.seed)
        self.reached = ""
        self.sent = 0
        self.requests = 0
        self._began = time.monotonic()
        self._addresses = 0
        self._people = [LeanClient(token, lambda _: None) for token in target.tokens]

    @property
    def left_s(self) -> float:
        """Until the end of the attack."""
        return self._began + self.target.seconds - time.monotonic()

    def report(self) -> Report:
        """What was done so far."""
        seconds = self.target.seconds
        return Report(round(self.sent / seconds), round(self.requests / seconds), self.reached)

    def address(self) -> str:
        """One of four addresses, in turn."""
        self._addresses += 1
        return f"127.0.{10 + self.target.number}.{1 + self._addresses % 4}"

    @contextlib.asynccontextmanager
    async def connected(self, first: bytes = b"") -> AsyncIterator[Raw]:
        """A connection that has sent some bytes."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.target.port, limit=1024, local_addr=(self.address(), 0)
        )
        try:
            raw = Raw(self, reader, writer)
            await raw.send(first)
            yield raw
        finally:
            writer.transport.abort()

    @contextlib.asynccontextmanager
    async def upgraded(self, subprotocol: str = MSGPACK.subprotocol) -> AsyncIterator[Raw]:
        """A websocket on which nothing was sent yet."""
        async with self.connected(_UPGRADE + subprotocol.encode() + b"\r\n\r\n") as raw:
            await raw.reader.readuntil(b"\r\n\r\n")
            yield raw

    @contextlib.asynccontextmanager
    async def signed_in(self) -> AsyncIterator[LeanClient]:
        """The device of one of its people, synced; as many at once as it has people."""
        client = self._people.pop(0)
        try:
            await client.connect(Address("127.0.0.1", self.target.port), self.address())
            yield client
        finally:
            self._people.append(client)
            if hasattr(client, "transport"):
                client.transport.abort()

    async def request(self, method: str, path: str, body: Any = None, *, address: str = "") -> tuple[int, Any]:
        """One HTTP request on a connection of its own; the status and the body."""
        data = msgspec.json.encode(body) if body is not None else b""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.target.port, local_addr=(address or self.address(), 0)
        )
        try:
            head = f"{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/json\r\n"
            writer.write(head.encode() + b"Content-Length: %d\r\n\r\n" % len(data) + data)
            self.requests += 1
            self.sent += len(head) + len(data)
            answer = await reader.read()
        finally:
            writer.transport.abort()
        top, _, rest = answer.partition(b"\r\n\r\n")
        if not top:
            raise EOFError
        return int(top.split(b" ", 2)[1]), msgspec.json.decode(rest) if rest.startswith((b"{", b"[")) else None

    async def repeat(self, workers: int, act: Callable[[], Awaitable[None]]) -> None:
        """Do something again and again until the end, by several workers; a refusal delays it a little."""

        async def work() -> None:
            while self.left_s > 0:
                with contextlib.suppress(*_REFUSED, TimeoutError):
                    async with asyncio.timeout(self.left_s):
                        await act()
                await asyncio.sleep(_PAUSE_S)

        await asyncio.gather(*(work() for _ in range(workers)))

    async def hold(
        self, count: int, act: Callable[[], contextlib.AbstractAsyncContextManager[Raw]], data: bytes
    ) -> None:
        """Keep many connections open, each with something unfinished, adding a byte now and then."""

        async def stall() -> None:
            async with act() as raw:
                await raw.send(data)
                while True:
                    await asyncio.sleep(1.0)
                    await raw.send(b"x")

        await self.repeat(count, stall)


class Raw:
    """One TCP connection of an attacker."""

    def __init__(self, attacker: Attacker, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self._attacker = attacker
        self._writer = writer

    async def send(self, data: bytes) -> None:
        """Send bytes as soon as the server takes them."""
        self._writer.write(data)
        self._attacker.sent += len(data)
        self._attacker.requests += 1
        await self._writer.drain()

    async def flood(self, data: bytes) -> None:
        """Send the same again and again, until the server ends the connection or the attack is over."""
        while self._attacker.left_s > 0:
            await self.send(data)
            await asyncio.sleep(0)

    async def read_all(self) -> None:
        """Read and forget, until the server ends the connection."""
        while await self.reader.read(65_536):
            pass


def binary(payload: bytes) -> bytes:
    """A whole message of a client."""
    return client_frame(_BINARY, payload)
