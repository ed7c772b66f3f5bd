"""A public port on a free loopback port, with an echo behind websockets and a small app behind HTTP."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from server.config.settings import GatewaySettings
from server.gateway import frames
from server.gateway.acceptor import Acceptor
from server.gateway.connection import Connection
from server.gateway.connection_counts import LocalCounts
from tests.support.clock import ManualClock
from tests.support.turns import until

SUBPROTOCOL = "tchat.v1.json"
UPGRADE = (
    b"GET /v1/ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: tchat.v1.json\r\n"
)


class Echo:
    """Sends each message back, and adds itself to `peers`."""

    def __init__(self, connection: Connection, peers: list["Echo"]) -> None:
        self.connection = connection
        connection.trust()
        self.ended = asyncio.Event()
        peers.append(self)

    def received(self, data: bytes, text: bool) -> None:
        self.connection.write(frames.encode(frames.TEXT if text else frames.BINARY, data))

    def writable(self) -> None:
        """Nothing waits."""

    def closed(self) -> None:
        assert not self.ended.is_set()
        self.ended.set()


class App:
    """Answers with the client's address, the path and the length of the body; `/hold` waits, `/big` is long."""

    def __init__(self) -> None:
        self.released = asyncio.Event()
        self.entered = asyncio.Event()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        body = b""
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
            more = message["more_body"]
        if scope["path"] == "/hold":
            self.entered.set()
            await self.released.wait()
        answer = f"{scope['client'][0]} {scope['path']} {len(body)}".encode()
        if scope["path"] == "/big":
            answer = bytes(50_000_000)
        length = (b"content-length", str(len(answer)).encode())
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        while answer:
            part, answer = answer[:1_000_000], answer[1_000_000:]
            await send({"type": "http.response.body", "body": part, "more_body": bool(answer)})


class Wire:
    """One TCP connection of a client that may send any bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self) -> str:
        """The head of one response."""
        return (await self.reader.readuntil(b"\r\n\r\n")).decode()

    async def response(self) -> tuple[int, str]:
        """The status and the body of one response with a Content-Length."""
        head = await self.head()
        fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
        body = await self.reader.readexactly(int(fields["content-length"]))
        return int(head.split(" ")[1]), body.decode()

    async def rest(self) -> bytes:
        """Everything until the server ends the connection, reset or not."""
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while data := await self.reader.read(65536):
                received += data
        return received

    async def statuses(self) -> list[int]:
        """The statuses of all responses until the server ends the connection."""
        parts = (await self.rest()).split(b"HTTP/1.1 ")[1:]
        return [int(part[:3]) for part in parts]


class PublicPort:
    """An acceptor and everything around it."""

    def __init__(self, settings: GatewaySettings) -> None:
        self.clock = ManualClock()
        self.app = App()
        self.peers: list[Echo] = []
        self.acceptor = Acceptor(
            settings,
            lambda connection: Echo(connection, self.peers),
            self.app,
            self.clock,
            subprotocols=[SUBPROTOCOL],
        )
        self.host, self.port = "", 0
        self._wires: list[Wire] = []

    @property
    def url(self) -> str:
        return f"ws://{self.host}:{self.port}/v1/ws"

    async def connect(self, data: bytes = b"", *, source: str | None = None) -> Wire:
        """Open a TCP connection and send something; any address of 127.0.0.0/8 may be the source."""
        local = None if source is None else (source, 0)
        reader, writer = await asyncio.open_connection(self.host, self.port, local_addr=local, limit=2**20)
        self._wires.append(Wire(reader, writer))
        self._wires[-1].send(data)
        return self._wires[-1]

    def hang_up(self) -> None:
        """End every connection from the client's side."""
        for wire in self._wires:
            wire.writer.close()

    async def until_empty(self) -> None:
        """Wait until every connection has been uncounted."""
        await until(lambda: not self.acceptor.limits.count)


@contextlib.asynccontextmanager
async def public_port(**changes: Any) -> AsyncIterator[PublicPort]:
    """Open a port with some settings changed; afterwards every connection must have been uncounted."""
    port = PublicPort(msgspec.structs.replace(GatewaySettings(), **changes))
    port.host, port.port = await port.acceptor.listen("127.0.0.1", 0)
    try:
        yield port
    finally:
        port.app.released.set()
        port.acceptor.stop_accepting()
        port.acceptor.abort_all()
    port.hang_up()
    await port.until_empty()
    assert all(peer.ended.is_set() for peer in port.peers)
    counts = port.acceptor.limits.counts
    assert isinstance(counts, LocalCounts)
    assert counts._counts == {}
    assert port.acceptor.connections == set()
    assert port.acceptor.http.connections == []
