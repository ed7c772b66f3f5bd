"""A proxy between clients and servers that come and go: one address, whose connections suffer what networks do.

It cuts connections, holds them in one direction or both, loses what was held (`swallow`), slices what passes into a few
bytes, and delays it. It counts what it did, so that a run can tell a fault from an intention.

Invariants: the bytes of one direction of a connection keep their order, and its end comes after them; at most
`_WAITING_MAX` bytes and one read of each direction wait here, then the proxy reads no more.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections import deque
from collections.abc import Iterator
from pathlib import Path

_WAITING_MAX = 65_536
_SLICES = (1, 2, 3, 5, 8, 13, 400)
"""Lengths of slices, in bytes; long ones among them, so that a large message comes to an end."""
_NO_LINGER = struct.pack("ii", 1, 0)
"""Closing sends a reset."""
_CLOSED, _RESET = b"", None


class CuttingProxy:
    """Forwards bytes both ways, with back pressure. `targets` are TCP ports or unix sockets, which take turns.

    A `delay_s` from the first to the second number is drawn for all that arrives; `slicing` cuts it.
    """

    def __init__(self, rng: random.Random | None = None) -> None:
        self.port = 0
        self.targets: list[int | Path] = []
        self.slicing = False
        self.delay_s = (0.0, 0.0)
        self.cuts = self.sliced = self.delayed = self.withheld = self.swallowed = 0
        self._rng = rng or random.Random()
        self._held: frozenset[bool] = frozenset()
        self._turn = 0
        self._server: asyncio.Server
        self._clients: set[Client] = set()

    async def open(self) -> None:
        """Listen on a free port of this machine."""
        self._server = await asyncio.get_running_loop().create_server(self.accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def accept(self) -> Client:
        """The end towards a new client."""
        return Client(self)

    async def close(self) -> None:
        """End all connections."""
        self._server.close()
        self.cut()

    def cut(self, rng: random.Random | None = None, share: float = 1.0) -> int:
        """Reset about this share of the connections, with whatever is under way on them; how many."""
        chosen = [end for end in self._clients if share >= 1.0 or (rng or self._rng).random() < share]
        for end in chosen:
            end.abort()
        self.cuts += len(chosen)
        return len(chosen)

    def hold(self, *, to_server: bool = True, to_client: bool = True) -> None:
        """Forward nothing that way, make no new connection, and close none: the other side has vanished."""
        self._held |= frozenset(way for way, held in ((True, to_server), (False, to_client)) if held)

    def release(self) -> None:
        """Forward again, what has waited first."""
        self._held = frozenset()
        for end in list(self._clients):
            end.go_on()

    def swallow(self) -> None:
        """The end of a black hole, which `hold` began: what was in it is lost, and both sides learn it."""
        self.swallowed += self.cut()
        self.release()

    def calm(self) -> None:
        """From now on only forward."""
        self.slicing, self.delay_s = False, (0.0, 0.0)
        self.release()

    @property
    def is_calm(self) -> bool:
        """Whether it only forwards."""
        return not (self.slicing or self.delay_s[1] or self._held)

    @property
    def held(self) -> bool:
        """Whether new connections wait."""
        return bool(self._held)

    def holds(self, *, to_server: bool) -> bool:
        """Whether this direction is held."""
        return to_server in self._held

    def pick_target(self) -> int | Path:
        """The server for a new connection; 0 while there is none."""
        self._turn += 1
        return self.targets[self._turn % len(self.targets)] if self.targets else 0

    def draw_delay(self) -> float:
        """How long what arrives now has to wait."""
        if not self.delay_s[1]:
            return 0.0
        self.delayed += 1
        return self._rng.uniform(*self.delay_s)

    def slice(self, data: bytes) -> Iterator[bytes]:
        """What arrives, in the pieces in which it leaves."""
        while self.slicing and data:
            length = self._rng.choice(_SLICES)
            self.sliced += len(data) > length
            piece, data = data[:length], data[length:]
            yield piece
        if data:
            yield data

    def passes(self, end: End, data: bytes) -> bool:  # noqa: ARG002 - for those that look at what passes
        """Whether to forward what arrived at an end."""
        return True

    def joined(self, end: Client) -> None:
        """A client is here."""
        self._clients.add(end)

    def left(self, end: Client) -> None:
        """A client is gone, and so is its server."""
        self._clients.discard(end)


class End(asyncio.Protocol):
    """One end of a forwarded connection; what it receives goes to the other."""

    def __init__(self, proxy: CuttingProxy, *, to_server: bool) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: End | None = None
        self.to_server = to_server
        self._proxy = proxy
        self._waiting: deque[tuple[float, bytes | None]] = deque()
        self._bytes = 0
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._blocked = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def forward_to(self, other: End) -> None:
        """Both ends are there."""
        self.other = other
        self.forward()

    def data_received(self, data: bytes) -> None:
        if not self._proxy.passes(self, data):
            return
        if self.other is not None and not self._waiting and self._proxy.is_calm:
            self.other.send(data)
            return
        self._due = max(self._due, asyncio.get_running_loop().time() + self._proxy.draw_delay())
        for number, piece in enumerate(self._proxy.slice(data)):
            self._due += 0.0005 if number else 0.0  # slices that leave at once would arrive as one
            self._waiting.append((self._due, piece))
            self._bytes += len(piece)
        self._proxy.withheld += self._proxy.holds(to_server=self.to_server)
        self.forward()

    def forward(self) -> None:
        """Send what is due, unless it is held, and come back when more is."""
        now = asyncio.get_running_loop().time()
        other = self.other
        if other is not None and not self._proxy.holds(to_server=self.to_server):
            while self._waiting and self._waiting[0][0] <= now:
                _, piece = self._waiting.popleft()
                self._bytes -= len(piece or b"")
                other.send(piece)
            if self._waiting and self._timer is None:
                self._timer = asyncio.get_running_loop().call_at(self._waiting[0][0], self._on_time)
        self._read_or_not()

    def send(self, piece: bytes | None) -> None:
        """Send what the other end received; its end is ours."""
        if self.transport is None or self.transport.is_closing():
            return
        if piece:
            self.transport.write(piece)
        elif piece is _RESET:
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            self.transport.abort()
        else:
            self.transport.close()

    def pause_writing(self) -> None:
        if self.other is not None:
            self.other.block(blocked=True)

    def resume_writing(self) -> None:
        if self.other is not None:
            self.other.block(blocked=False)

    def block(self, *, blocked: bool) -> None:
        """Whether the other end can take more."""
        self._blocked = blocked
        self._read_or_not()

    def connection_lost(self, exc: Exception | None) -> None:
        """What a dying server still said is delivered; a reset is passed on as a reset."""
        self.transport = None
        self._waiting.append((self._due, _CLOSED if exc is None else _RESET))
        self.forward()

    def abort(self) -> None:
        """Reset both ends."""
        for end in (self, self.other):
            if end is not None:
                end.send(_RESET)

    def _on_time(self) -> None:
        self._timer = None
        self.forward()

    def _read_or_not(self) -> None:
        if self.transport is None or self.transport.is_closing():
            return
        if self._blocked or self._bytes > _WAITING_MAX:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()


class Client(End):
    """The end towards a client; it looks for the server when it is there."""

    def __init__(self, proxy: CuttingProxy) -> None:
        super().__init__(proxy, to_server=True)
        self._dialling: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._proxy.joined(self)
        self.go_on()

    def go_on(self) -> None:
        """Both directions, after they were held."""
        if self._dialling is None and not self._proxy.held:
            self._dialling = asyncio.ensure_future(self._dial())
        for end in (self, self.other):
            if end is not None:
                end.forward()

    async def _dial(self) -> None:
        try:
            server = await self._connect(self._proxy.pick_target())
        except OSError:
            self.abort()
            return
        server.forward_to(self)
        self.forward_to(server)

    async def _connect(self, target: int | Path) -> End:
        loop = asyncio.get_running_loop()
        if not target:
            raise ConnectionRefusedError
        if isinstance(target, Path):
            return (await loop.create_unix_connection(lambda: _Server(self._proxy, self), str(target)))[1]
        return (await loop.create_connection(lambda: _Server(self._proxy, self), "127.0.0.1", target))[1]

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.other is None or self.other.transport is None:
            self._proxy.left(self)


class _Server(End):
    """The end towards a server."""

    def __init__(self, proxy: CuttingProxy, client: Client) -> None:
        super().__init__(proxy, to_server=False)
        self._client = client

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._client.transport is None:
            self._proxy.left(self._client)
