"""A TCP proxy between clients and servers that come and go: one address, whose connections are cut or held at will."""

from __future__ import annotations

import asyncio
import random


class CuttingProxy:
    """Forwards bytes both ways, with back pressure. `targets` are the servers' ports, which get connections in turn."""

    def __init__(self) -> None:
        self.port = 0
        self.targets: list[int] = []
        self.cuts = 0
        self.held = False
        self._turn = 0
        self._server: asyncio.Server
        self._clients: set[_End] = set()

    async def open(self) -> None:
        """Listen on a free port of this machine."""
        self._server = await asyncio.get_running_loop().create_server(lambda: _Client(self), "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """End all connections."""
        self._server.close()
        self.cut(random.Random(0), share=1.0)

    def cut(self, rng: random.Random, share: float) -> None:
        """Reset about this share of the connections, with whatever is under way on them."""
        for end in list(self._clients):
            if rng.random() < share:
                self.cuts += 1
                end.abort()

    def hold(self) -> None:
        """Forward nothing, not even new connections, and close none: the other side has vanished."""
        self.held = True
        for end in self._clients:
            end.hold()

    def release(self) -> None:
        """Forward again, what has waited first."""
        self.held = False
        for end in self._clients:
            end.release()

    def pick_target(self) -> int:
        """The port for a new connection; 0 while there is no server."""
        self._turn += 1
        return self.targets[self._turn % len(self.targets)] if self.targets else 0

    def joined(self, end: _End) -> None:
        """A client is here."""
        self._clients.add(end)

    def left(self, end: _End) -> None:
        """A client is gone."""
        self._clients.discard(end)


class _End(asyncio.Protocol):
    """One end of a forwarded connection; what it receives goes to the other."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: _End | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if self.other is None:
            transport.pause_reading()

    def forward_to(self, other: _End) -> None:
        """Both ends are there."""
        self.other = other
        if self.transport is not None:
            self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        assert self.other is not None
        assert self.other.transport is not None
        self.other.transport.write(data)

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        transport, self.transport = self.transport, None
        if self.other is not None and self.other.transport is not None:
            # What a dying server still said is delivered; a reset is passed on as a reset.
            if exc is None:
                self.other.transport.close()
            else:
                self.other.transport.abort()
        assert transport is not None

    def hold(self) -> None:
        """Read from neither end."""
        for end in (self, self.other):
            if end is not None and end.transport is not None:
                end.transport.pause_reading()

    def release(self) -> None:
        """Read again from both."""
        if self.other is not None:
            for end in (self, self.other):
                if end.transport is not None:
                    end.transport.resume_reading()

    def abort(self) -> None:
        """Reset both ends."""
        for end in (self, self.other):
            if end is not None and end.transport is not None:
                end.transport.abort()


class _Client(_End):
    """The end towards a client; it looks for the server when it is there."""

    def __init__(self, proxy: CuttingProxy) -> None:
        super().__init__()
        self._proxy = proxy
        self._dialling: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._proxy.joined(self)
        if not self._proxy.held:
            self._dialling = asyncio.ensure_future(self._dial())

    def release(self) -> None:
        super().release()
        if self._dialling is None:
            self._dialling = asyncio.ensure_future(self._dial())

    async def _dial(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            target = self._proxy.pick_target()
            if not target:
                raise ConnectionRefusedError
            _, server = await loop.create_connection(_End, "127.0.0.1", target)
        except OSError:
            self.abort()
            return
        server.forward_to(self)
        if self.transport is None:
            server.abort()
            return
        self.forward_to(server)
        if self._proxy.held:
            self.hold()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._proxy.left(self)
