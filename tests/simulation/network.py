"""One connection between a device and a node: bytes in order, with delays, until somebody ends it.

The server's half is the real `Connection` of the gateway on this transport. Each half learns of the end by itself: of a
cut perhaps late, and what was on its way is lost. What concerns the server runs in its process, so a dead node gets
nothing any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from server.gateway.connection import Connection
from server.gateway.frames import BINARY
from tests.simulation.loop import Process, VirtualLoop
from tests.simulation.weather import Weather

_NO_MASK = bytes(4)
_SPLIT = 0.1


class Receiver(Protocol):
    """The client's half."""

    def arrived(self, link: Link, opcode: int, payload: bytes) -> None:
        """One frame of the server."""

    def ended(self, link: Link) -> None:
        """Nothing more comes."""


class Link(asyncio.Transport):
    """See the module. `open_server` makes the server's half."""

    def __init__(
        self,
        loop: VirtualLoop,
        weather: Weather,
        *,
        clients: Process,
        server: Process,
        receiver: Receiver,
        open_server: Callable[[Link], Connection],
    ) -> None:
        super().__init__()
        self.stalled = False
        """Whether the client reads nothing."""
        self.is_cut = False
        self._loop = loop
        self._weather = weather
        self._clients = clients
        self.server = server
        self._receiver: Receiver | None = receiver
        self._connection: Connection | None = None
        self._to_client = bytearray()
        self._to_server = bytearray()
        self._reading = True
        self._server_gone = False
        self._eof = False
        self._high = self._low = 65_536
        self._pumping: set[str] = set()
        self._parsed = bytearray()
        loop.call_later(weather.network_s(), self._open, open_server, context=server.context)

    # -- the client's half

    def send(self, payload: bytes) -> None:
        """Send one message."""
        length = len(payload)
        head = bytes((0x80 | BINARY, 0x80 | length)) if length < 126 else b"\x82\xfe" + length.to_bytes(2, "big")
        self._to_server += head + _NO_MASK + payload
        self._pump_to_server()

    def close(self) -> None:
        """End the connection from the client's side: what was sent before may still arrive. Also asyncio's `close`."""
        self._receiver = None
        self._loop.call_later(self._weather.network_s(), self._lose_server, context=self.server.context)

    def cut(self, *, client_learns_s: float, server_learns_s: float) -> None:
        """End it somewhere on the way."""
        self._to_client.clear()
        self._to_server.clear()
        self.is_cut = True
        self._reading, self.stalled = False, True
        self._loop.call_later(client_learns_s, self._lose_client, context=self._clients.context)
        self._loop.call_later(server_learns_s, self._lose_server, context=self.server.context)

    def resume(self) -> None:
        """Let the client read again, unless the connection is cut."""
        self.stalled = self.is_cut
        self._pump_to_client()

    @property
    def quiet(self) -> bool:
        """Whether nothing is on its way."""
        return not self._to_client and not self._to_server

    # -- the server's half: what `Connection` calls

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if self._server_gone or self._eof:
            return
        self._to_client += data
        connection = self._connection
        if len(self._to_client) > self._high and connection is not None and not connection.paused:
            connection.pause_writing()
        self._pump_to_client()

    def write_eof(self) -> None:
        self._eof = True
        self._pump_to_client()

    def abort(self) -> None:
        self._loop.call_soon(self._lose_server, context=self.server.context)
        self._to_client.clear()
        self._eof = True
        self._pump_to_client()

    def is_closing(self) -> bool:
        return self._server_gone

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        self._pump_to_server()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high, self._low = high or 65_536, low or 0

    # -- on the way

    def _open(self, open_server: Callable[[Link], Connection]) -> None:
        self._connection = open_server(self)
        self._pump_to_server()

    def _pump_to_server(self) -> None:
        ready = self._to_server and self._reading and self._connection is not None and not self._server_gone
        if ready and "server" not in self._pumping:
            self._pumping.add("server")
            self._loop.call_later(self._weather.network_s(), self._arrive_at_server, context=self.server.context)

    def _arrive_at_server(self) -> None:
        self._pumping.discard("server")
        if not self._reading or self._server_gone or self._connection is None:
            return
        data = bytes(self._to_server)
        if self._weather.dice.random() < _SPLIT:
            data = data[: 1 + int(len(data) * self._weather.dice.random())]
        del self._to_server[: len(data)]
        self._connection.data_received(data)
        self._pump_to_server()

    def _pump_to_client(self) -> None:
        if not self.stalled and (self._to_client or self._eof) and "client" not in self._pumping:
            self._pumping.add("client")
            self._loop.call_later(self._weather.network_s(), self._arrive_at_client, context=self._clients.context)

    def _arrive_at_client(self) -> None:
        self._pumping.discard("client")
        if self.stalled:
            return
        self._parsed += self._to_client
        self._to_client.clear()
        self._loop.call_soon(self._drained, context=self.server.context)
        while self._receiver is not None and (frame := self._next_frame()) is not None:
            self._receiver.arrived(self, *frame)
        if self._eof:
            self._lose_client()

    def _drained(self) -> None:
        if self._connection is not None and self._connection.paused and len(self._to_client) <= self._low:
            self._connection.resume_writing()

    def _next_frame(self) -> tuple[int, bytes] | None:
        parsed = self._parsed
        if len(parsed) < 2:
            return None
        length, start = parsed[1], 2
        if length == 126:
            length, start = int.from_bytes(parsed[2:4], "big"), 4
        elif length == 127:
            length, start = int.from_bytes(parsed[2:10], "big"), 10
        if len(parsed) < start + length:
            return None
        opcode, payload = parsed[0] & 0x0F, bytes(parsed[start : start + length])
        del parsed[: start + length]
        return opcode, payload

    def _lose_client(self) -> None:
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.ended(self)

    def _lose_server(self) -> None:
        if not self._server_gone:
            self._server_gone = True
            if self._connection is not None:
                self._connection.connection_lost(None)
