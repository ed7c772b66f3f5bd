"""A server that speaks just enough for a load of messages, and whose fan-out can be broken on purpose."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

import msgspec

from protocol.bodies import Body, Header, Posted, TimelineEventRaw
from protocol.codec import MSGPACK
from protocol.commands import Authenticate, Create, Send, Sync
from protocol.events import CaughtUp
from protocol.ids import created_dialog_id, direct_dialog_id, new_id
from protocol.kinds import Kind
from protocol.replies import Acked, Authenticated, Synced
from server.gateway import frames
from tests.loadtest.streams import frame

FanOut = Callable[[bytes, int, bytes], list[bytes]]
"""What the last member of a dialog gets for its event `seq`, given its frame."""


def deliver(_dialog: bytes, _seq: int, event: bytes) -> list[bytes]:
    """Every event, once."""
    return [event]


class FakeServer:
    """Dialogs and their members, in memory."""

    def __init__(self, fan_out: FanOut) -> None:
        self.fan_out = fan_out
        self.port = 0
        self.here: dict[bytes, FakeConnection] = {}
        self.members: dict[bytes, list[bytes]] = {}
        self.heads: defaultdict[bytes, int] = defaultdict(int)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["FakeServer"]:
        listener = await asyncio.get_running_loop().create_server(lambda: FakeConnection(self), "127.0.0.1", 0)
        self.port = listener.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            listener.close()
            for connection in list(self.here.values()):
                connection.transport.abort()

    def append(self, dialog: bytes, author: bytes, n: int, body: Body) -> int:
        """Number an event, and give it to the members that are here."""
        self.heads[dialog] = seq = self.heads[dialog] + 1
        raw = msgspec.Raw(msgspec.msgpack.encode(body))
        event = frame(TimelineEventRaw(dialog, seq, author, author, n, 0, seq, raw))
        *others, last = [self.here[member] for member in self.members[dialog]]
        for other in others:
            other.transport.write(event)
        last.transport.write(b"".join(self.fan_out(dialog, seq, event)))
        return seq


class FakeConnection(asyncio.Protocol):
    """One connection; its principal is its device."""

    def __init__(self, server: FakeServer) -> None:
        self._server = server
        self._buffer = b""
        self._me = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._me:
            head, end, self._buffer = self._buffer.partition(b"\r\n\r\n")
            assert head.startswith(b"GET /v1/ws HTTP/1.1\r\n")
            assert end
            self._me = new_id()
            self.transport.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        while cut := frames.parse_common_frame(self._buffer, 0, 65_536):
            end_at, payload, _ = cut
            self._buffer = self._buffer[end_at:]
            self._take(MSGPACK.decode_command(payload))

    def _take(self, command: object) -> None:
        match command:
            case Authenticate():
                assert command.device
                self._me = command.device
                self._server.here[self._me] = self
                self._say(Authenticated(command.id, self._me, self._me, 0, 60.0, 64, 65_536))
            case Sync():
                self._say(Synced(command.id, True))
                self._say(CaughtUp("position"))
            case Create():
                dialog = created_dialog_id(self._me, command.n)
                if len(command.members) == 1:
                    dialog = direct_dialog_id(self._me, command.members[0])
                self._server.members[dialog] = [self._me, *command.members]
                created = Posted(Kind.MESSAGE, Header(), b"created")
                seq = self._server.append(dialog, self._me, command.n, created)
                self._say(Acked(command.id, dialog, command.n, seq, 0, 0))
            case Send():
                posted = Posted(command.kind, command.header, command.payload)
                seq = self._server.append(command.dialog, self._me, command.n, posted)
                self._say(Acked(command.id, command.dialog, command.n, seq, 0, seq))

    def _say(self, message: msgspec.Struct) -> None:
        self.transport.write(frame(message))
