"""What stands between one client and an honest server, and may change every message that passes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable

import msgspec
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from protocol.codec import MSGPACK, ServerMessage
from protocol.command_rules import Command

Told = Callable[[ServerMessage], Iterable[ServerMessage]]
"""What the client is told instead of a message of the server."""


class LyingProxy:
    """Passes all on, until `told` is replaced. `commands` is called with each command of the client."""

    def __init__(self, port: int) -> None:
        self.told: Told = lambda message: (message,)
        self.commands: list[Command] = []
        self.url = ""
        self._server_port = port
        self._client: ServerConnection | None = None

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[LyingProxy]:
        """While it stands there, at `url`."""
        async with serve(
            self._serve, "127.0.0.1", 0, subprotocols=[Subprotocol(MSGPACK.subprotocol)], compression=None
        ) as server:
            self.url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/v1/ws"
            yield self

    async def tell(self, message: msgspec.Struct) -> None:
        """Tell the client something that the server did not say."""
        assert self._client is not None, "a client is connected"
        await self._client.send(MSGPACK.encode(message))

    async def _serve(self, client: ServerConnection) -> None:
        self._client = client
        url = f"ws://127.0.0.1:{self._server_port}/v1/ws"
        spoken = Subprotocol(MSGPACK.subprotocol)
        async with connect(url, subprotocols=[spoken], compression=None, max_queue=None) as server:
            telling = asyncio.ensure_future(self._tell_all(server, client))
            with contextlib.suppress(ConnectionClosed):
                async for data in client:
                    assert isinstance(data, bytes)
                    self.commands.append(MSGPACK.decode_command(data))
                    await server.send(data)
            telling.cancel()
            await asyncio.wait({telling})

    async def _tell_all(self, server: object, client: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for data in server:  # type: ignore[attr-defined]
                message = MSGPACK.decode_server(data)
                assert message is not None
                for each in self.told(message):
                    await client.send(MSGPACK.encode(each))
            await client.close()
