"""One websocket after another, as the core asks for them: what it reads goes to the core, what it is given leaves.

Invariants:

- One connection at a time; its end is told to the core before the next one is opened.
- What has arrived when the client gets to it is one commit of its store. Nothing of it is shown or answered before.
- While the app is slow (`ConnectionOwner.wait_for_room`), the socket is not read.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import anyio
from anyio import CancelScope
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.typing import Subprotocol

from protocol.codec import Codec
from tchat.actions import ClientFaultError, CloseConnection, Connect, StoppedError, TokenUnavailableError
from tchat.core import ClientCore

MESSAGE_BYTES_MAX = 32 * 1024 * 1024
READ_AHEAD_MAX = 16
"""Messages that are read from the socket before the core has had them."""
CONNECT_S_MAX = 10.0
CLOSE_S_MAX = 2.0
_FAULTS = frozenset({400, 426})
"""HTTP statuses of a handshake that no retry cures; any other may come from a proxy and pass."""

TokenSource = Callable[[bool], Awaitable[str]]
"""Returns an access token, a new one if the argument is True.

Raise `StoppedError` to end the client, `TokenUnavailableError` to be asked again later.
"""


@dataclass(frozen=True, slots=True)
class ConnectionOwner:
    """What the connections need of their client."""

    perform: Callable[[], None]
    """Carry out the actions of the core."""
    together: Callable[[], AbstractContextManager[None]]
    """What the core is told inside is one commit of the store; no action is carried out inside."""
    stop: Callable[[StoppedError], None]
    """There will be no further connection."""
    is_full: Callable[[], bool]
    """Whether the app has as many events as it should."""
    wait_for_room: Callable[[], Awaitable[None]]
    """Return when the app can take more."""


class Connections:
    """The connections of one client."""

    def __init__(
        self, url: str, token_source: TokenSource, codec: Codec, core: ClientCore, owner: ConnectionOwner
    ) -> None:
        self._url = url
        self._token_source = token_source
        self._codec = codec
        self._core = core
        self._owner = owner
        self._running = CancelScope()
        self._connect: Connect | None = None
        self._closing = CloseConnection(1000, "")
        self._outgoing: deque[bytes] = deque()
        self._arrived: deque[bytes] = deque()
        self._to_take = anyio.Event()
        self._taken = anyio.Event()
        self._to_write = anyio.Event()
        self._to_close = anyio.Event()
        self._sooner = anyio.Event()
        self._planned = 0.0

    @property
    def outgoing(self) -> int:
        """How many messages are not written yet."""
        return len(self._outgoing)

    def write(self, data: bytes) -> None:
        """Write one message on the present connection."""
        self._outgoing.append(data)
        self._to_write.set()

    def plan(self, planned: Connect) -> None:
        """Connect when the present connection has ended."""
        self._connect = planned

    def close(self, closing: CloseConnection) -> None:
        """End the present connection."""
        self._closing = closing
        self._to_close.set()

    def keep_deadline(self) -> None:
        """The deadline of the core may have moved: wake up in time."""
        deadline = self._core.deadline()
        if deadline is not None and deadline < self._planned:
            self._sooner.set()

    def end(self) -> None:
        """End everything."""
        self._running.cancel()

    async def run(self) -> None:
        """Connect as the core plans, until it plans nothing more."""
        with self._running:
            while (planned := self._connect) is not None:
                self._connect = None
                await anyio.sleep(planned.delay_s)
                opened = await self._open(fresh_token=planned.fresh_token)
                if opened is not None:
                    await self._serve(*opened)
                self._owner.perform()

    async def _open(self, *, fresh_token: bool) -> tuple[ClientConnection, str] | None:
        """A websocket and the token for it; None if there is none this time."""
        try:
            token = await self._token_source(fresh_token)
            websocket = await connect(
                self._url,
                subprotocols=[Subprotocol(self._codec.subprotocol)],
                max_size=MESSAGE_BYTES_MAX,
                open_timeout=CONNECT_S_MAX,
                close_timeout=CLOSE_S_MAX,
                ping_interval=None,
                compression=None,
            )
        except StoppedError as error:
            self._owner.stop(error)
            return None
        except InvalidStatus as error:
            if error.response.status_code in _FAULTS:
                self._owner.stop(ClientFaultError(f"the server refused the handshake: {error}"))
            else:
                self._core.connect_failed()
            return None
        except (TokenUnavailableError, OSError, TimeoutError, WebSocketException):
            self._core.connect_failed()
            return None
        if websocket.subprotocol != self._codec.subprotocol:
            await websocket.close()
            self._owner.stop(ClientFaultError(f"the server does not speak {self._codec.subprotocol}"))
            return None
        return websocket, token

    async def _serve(self, websocket: ClientConnection, token: str) -> None:
        """One connection, from its first message to its end."""
        self._outgoing.clear()
        self._arrived.clear()
        self._closing = CloseConnection(1000, "")
        self._to_close = anyio.Event()
        self._core.connected(token, time.monotonic())
        self._owner.perform()
        try:
            async with anyio.create_task_group() as tasks:
                for part in (self._read, self._take, self._write, self._keep_time, self._wait_to_close):
                    tasks.start_soon(self._until_over, part, websocket, tasks.cancel_scope)
        finally:
            await self._close(websocket)
        self._take_arrived()  # the reasons of an end come last
        self._core.disconnected(websocket.close_code, time.monotonic())

    async def _until_over(
        self, part: Callable[[ClientConnection], Awaitable[None]], websocket: ClientConnection, all_parts: CancelScope
    ) -> None:
        """Run one part of a connection; the first one that ends cancels the others."""
        with contextlib.suppress(ConnectionClosed):
            await part(websocket)
        all_parts.cancel()

    async def _wait_to_close(self, _websocket: ClientConnection) -> None:
        await self._to_close.wait()

    async def _close(self, websocket: ClientConnection) -> None:
        """Close with a handshake, or without one if the server does not answer."""
        with anyio.move_on_after(CLOSE_S_MAX, shield=True):
            await websocket.close(self._closing.code, self._closing.reason)
        websocket.transport.abort()

    async def _read(self, websocket: ClientConnection) -> None:
        while True:
            self._arrived.append(await websocket.recv(decode=False))
            self._to_take.set()
            if len(self._arrived) >= READ_AHEAD_MAX:
                self._taken = anyio.Event()
                await self._taken.wait()

    async def _take(self, _websocket: ClientConnection) -> None:
        """Pass on what has been read, all that there is at a time."""
        while True:
            await self._to_take.wait()
            self._to_take = anyio.Event()
            self._take_arrived()
            if self._owner.is_full():
                self._core.pause_reading()
                await self._owner.wait_for_room()
                self._core.resume_reading(time.monotonic())
            self._taken.set()

    def _take_arrived(self) -> None:
        now = time.monotonic()
        with self._owner.together():
            while self._arrived:
                self._core.received(self._arrived.popleft(), now)
        self._owner.perform()

    async def _write(self, websocket: ClientConnection) -> None:
        while True:
            while self._outgoing:
                await websocket.send(self._outgoing.popleft(), text=self._codec.text)
            self._to_write = anyio.Event()
            await self._to_write.wait()

    async def _keep_time(self, _websocket: ClientConnection) -> None:
        while (deadline := self._core.deadline()) is not None:
            self._planned = deadline
            self._sooner = anyio.Event()
            with anyio.move_on_after(max(0.0, deadline - time.monotonic())):
                await self._sooner.wait()
            self._core.tick(time.monotonic())
            self._owner.perform()
