"""A websocket client that costs next to nothing, so that a load test shows the server and not its load.

It is good for nothing else: it does not reconnect, keeps no outbox, does not check the server, and masks frames with a
key of zeros (RFC 6455, section 5.3 requires a random one; the work of the server is the same). Its messages are those
of `tchat.v1.msgpack`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import msgspec

from protocol.codec import MSGPACK, ServerMessage
from protocol.command_rules import Command
from protocol.commands import Authenticate, Sync
from protocol.events import CaughtUp
from protocol.ids import NIL, new_id
from protocol.replies import Authenticated, Failed, Reply

BINARY, CLOSE = 0x82, 0x88
_MASKED = 0x80
_NO_MASK = bytes(4)
_ANSWER_S = 30.0

Receiver = Callable[["LeanClient", bytes], None]


class LoadError(Exception):
    """A load test cannot go on; its numbers would be useless. The text is a sentence for people."""


class Address(msgspec.Struct, frozen=True):
    """Where a server listens."""

    host: str
    port: int
    tls: bool = False

    @property
    def is_loopback(self) -> bool:
        """Whether clients on this machine may use any loopback address of their own."""
        return self.host.startswith("127.")

    def upgrade(self) -> bytes:
        """The request that begins a websocket."""
        lines = (
            "GET /v1/ws HTTP/1.1",
            f"Host: {self.host}:{self.port}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Protocol: {MSGPACK.subprotocol}",
        )
        return "\r\n".join([*lines, "", ""]).encode()


def masked(payload: bytes) -> bytes:
    """One client frame, of a payload below 64 KiB."""
    length = len(payload)
    if length < 126:
        return bytes((BINARY, _MASKED | length)) + _NO_MASK + payload
    return bytes((BINARY, _MASKED | 126)) + length.to_bytes(2, "big") + _NO_MASK + payload


def ignore(client: LeanClient, payload: bytes) -> None:
    """Ignore a message."""


class LeanClient(asyncio.Protocol):
    """One connection of one device at a time. `receiver` gets the messages that no call waits for."""

    def __init__(self, token: str, trouble: Callable[[str], None]) -> None:
        """`trouble` is called with every failure outside of a call."""
        self.token = token
        self.device = new_id()
        self.principal = NIL
        self.position = ""
        self.receiver: Receiver = ignore
        self.transport: asyncio.Transport
        self._trouble = trouble
        self._n = 0
        self._buffer = b""
        self._upgrade = b""
        self._upgraded = False
        self._leaving = False
        self._gone: asyncio.Future[None]
        self._wanted: Callable[[ServerMessage | None], bool] = bool
        self._waiting: asyncio.Future[Any] | None = None

    # calls of a load

    async def connect(self, address: Address, source: str | None = None) -> None:
        """Connect from the local address `source`, authenticate, sync; returns once caught up."""
        loop = asyncio.get_running_loop()
        self._upgraded = self._leaving = False
        self._buffer, self._upgrade, self._gone = b"", address.upgrade(), loop.create_future()
        try:
            await loop.create_connection(
                lambda: self,
                address.host,
                address.port,
                ssl=address.tls or None,
                local_addr=(source, 0) if source else None,
            )
        except OSError as error:
            where, why = f"{address.host}:{address.port}", error.strerror or error
            raise LoadError(f"No connection to {where} ({why}): is it a server that runs?") from None
        if not self._upgraded:
            await self._wait(lambda _: False)  # the end of the handshake ends it
        who = await self.ask(Authenticate(1, self.token, self.device))
        assert isinstance(who, Authenticated)
        self.principal = who.principal
        self.send(Sync(2, self.position))
        caught_up = await self._wait(lambda message: isinstance(message, CaughtUp))
        self.position = caught_up.position

    async def disconnect(self) -> None:
        """Abort the connection; returns once it is closed."""
        self._leaving = True
        self.transport.abort()
        await self._gone

    def send(self, command: Command) -> None:
        """Send a command."""
        self.transport.write(masked(MSGPACK.encode(command)))

    async def ask(self, command: Command) -> Reply:
        """Send a command and return its reply; raises LoadError if it is a refusal."""
        self.send(command)
        reply: Reply = await self._wait(lambda message: isinstance(message, Reply) and message.id == command.id)
        return reply

    def next_n(self) -> int:
        """The next number of this device."""
        self._n += 1
        return self._n

    async def _wait(self, wanted: Callable[[ServerMessage | None], bool]) -> Any:
        self._wanted = wanted
        self._waiting = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(_ANSWER_S):
                return await self._waiting
        except TimeoutError:
            raise LoadError(f"The server gave no answer within {_ANSWER_S:.0f} s.") from None

    # calls of the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for a websocket."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name
        self.transport.write(self._upgrade)

    def data_received(self, data: bytes) -> None:
        """Take the messages that are whole; the rest waits for more."""
        if self._buffer:
            data = self._buffer + data
        if not self._upgraded:
            data = data[self._take_head(data) :]
        taken = self.take_frames(data) if self._upgraded else 0
        self._buffer = data[taken:]

    def connection_lost(self, exc: Exception | None) -> None:
        """Report an unexpected end."""
        if not self._leaving:
            self._fail(f"a connection ended unexpectedly ({exc or 'the server closed it'})")
        if not self._gone.done():
            self._gone.set_result(None)

    # what comes in

    def take_frames(self, data: bytes) -> int:
        """Take all whole frames; returns where the rest begins."""
        at, size = 0, len(data)
        while size - at >= 2:
            length, start = data[at + 1], at + 2
            if length == 126:
                length, start = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
            elif length == 127:
                length, start = int.from_bytes(data[at + 2 : at + 10], "big"), at + 10
            if start + length > size:
                break
            self.take_frame(data[at], data[start : start + length])
            at = start + length
        return at

    def take_frame(self, first: int, payload: bytes) -> None:
        """Take one frame that begins with the byte `first`."""
        if first == CLOSE:
            self._fail(f"the server closed: {payload[2:].decode(errors='replace')}")
        elif first != BINARY:
            self._fail(f"a frame that begins with {first:#x}")
        elif self._waiting is None or not self._take_awaited(payload):
            self.receiver(self, payload)

    def _take_awaited(self, payload: bytes) -> bool:
        """Whether it is what a call waits for."""
        message = MSGPACK.decode_server(payload)
        if isinstance(message, Failed):
            self._fail(f"{message.code}: {message.message}")
        elif self._wanted(message):
            self._finish(message)
        else:
            return False
        return True

    def _take_head(self, data: bytes) -> int:
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return 0
        if not data.startswith(b"HTTP/1.1 101 "):
            self._fail(data.decode(errors="replace"))
            return len(data)
        self._upgraded = True
        self._finish(None)
        return end + 4

    def _finish(self, message: ServerMessage | None) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_result(message)

    def _fail(self, why: str) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_exception(LoadError(why))
        else:
            self._trouble(why)
