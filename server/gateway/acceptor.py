"""The one public port: reads the first request head of each connection, and decides which protocol it speaks.

A request for a websocket gets a `Connection`. All others get an `HttpConnection`, which takes over the transport and
the bytes received so far. Until then a connection is a `PendingConnection`: its head is bounded in bytes and in time,
and nothing else is created for it before the head is complete and unambiguous.

Every connection is counted twice, for the node and for its client address, and uncounted when its transport is lost,
whichever protocol it speaks by then.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from http import HTTPStatus

from server.clock import Clock
from server.config.settings import GatewaySettings
from server.gateway import proxy_header, request_head
from server.gateway.admission import Admission
from server.gateway.connect_limits import ConnectLimits, ConnectRefused
from server.gateway.connection import Connection, PeerFactory
from server.gateway.connection_counts import ConnectionCounts
from server.gateway.forwarded import TrustedProxies, normalize_address
from server.gateway.handshake import Handshake
from server.gateway.http_connection import ASGIApp, HttpConnection, HttpServer
from server.gateway.request_head import HeadError, RequestHead

_log = logging.getLogger(__name__)

_BACKLOG = 2048


@lru_cache(maxsize=1024)
def _share_text(address: str) -> str:
    """One object for the clients of one address. Python 3.12.0 to 3.12.5 never give back what `sys.intern` takes."""
    return address


class Acceptor:
    """Listens on the public port, and knows every connection of it."""

    def __init__(
        self,
        settings: GatewaySettings,
        peer_factory: PeerFactory | None,
        app: ASGIApp,
        clock: Clock,
        *,
        subprotocols: Sequence[str] = (),
        counts: ConnectionCounts | None = None,
    ) -> None:
        """`subprotocols` in order of preference; a client must offer one of them, unless the list is empty.

        Without a `peer_factory` the port has no websockets: a request for one is refused with 404. `counts` are those
        that several processes on this port share.
        """
        self.settings = settings
        self.peer_factory = peer_factory
        self.proxies = TrustedProxies(settings.trusted_proxies, settings.forwarded_header)
        self.limits = ConnectLimits(settings, clock, exempt=self.proxies.trusts, counts=counts)
        self.handshake = Handshake(subprotocols, settings.allowed_origins)
        self.http = HttpServer(app, settings, clock, self.proxies, lost=self._forget_http)
        self.admission = Admission(asyncio.get_running_loop().call_soon)
        self.accepting = True
        self.connections: set[Connection] = set()
        """Open websockets."""
        self.closes: Counter[int] = Counter()
        """Websockets that have ended, by our close code; 0 where the client or the network ended it."""
        self.refused: Counter[int] = Counter()
        """Connections that were refused before they spoke a protocol, by HTTP status."""
        self.websocket_lost = self._forget_websocket
        """One bound method for all connections: each of them keeps a reference to it."""
        self._servers: list[asyncio.Server] = []
        self._lost = asyncio.Event()

    async def listen(self, host: str, port: int, *, shared: bool = False) -> tuple[str, int]:
        """Listen on one more address and return it; port 0 takes any free one. Raises `OSError` if it is in use.

        Processes that listen on a `shared` one get its connections by turns, as the system chooses.
        """
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: PendingConnection(self), host, port, backlog=_BACKLOG, reuse_port=shared or None
        )
        self._servers.append(server)
        name = server.sockets[0].getsockname()
        return str(name[0]), int(name[1])

    def stop_accepting(self) -> None:
        """Close the listening sockets; a connection that the system has already accepted is refused with 503."""
        self.accepting = False
        for server in self._servers:
            server.close()
        self._servers.clear()

    async def close_http(self, timeout_s: float) -> None:
        """Close idle HTTP connections now, others after their response, and all that are left after `timeout_s`."""
        for connection in self.http.connections:
            connection.shutdown()
        try:
            async with asyncio.timeout(timeout_s):
                while self.http.connections:
                    self._lost.clear()
                    await self._lost.wait()
        except TimeoutError:
            for connection in self.http.connections:
                connection.transport.abort()

    async def wait_websockets_closed(self) -> None:
        """Return once no websocket is left."""
        while self.connections:
            self._lost.clear()
            await self._lost.wait()

    def abort_all(self) -> None:
        """End every websocket now."""
        for connection in tuple(self.connections):
            connection.abort()

    def _forget_websocket(self, connection: Connection) -> None:
        self.connections.discard(connection)
        self.closes[connection.close_code] += 1
        self._uncount(connection.address)
        if not connection.trusted:
            self.limits.charge_stranger(connection.address)

    def _forget_http(self, connection: HttpConnection) -> None:
        self._uncount(connection.address)
        if connection.refused:
            self.limits.charge_stranger(connection.address)

    def _uncount(self, address: str) -> None:
        self.limits.release(address)
        self.limits.close()
        self._lost.set()


class PendingConnection(asyncio.Protocol):
    """A connection whose first request head has not arrived yet."""

    __slots__ = (
        "_acceptor",
        "_address",
        "_admitted",
        "_buffer",
        "_claimed",
        "_done",
        "_opened",
        "_port",
        "_proxy_header_done",
        "_seen",
        "_timer",
        "_transport",
    )

    def __init__(self, acceptor: Acceptor) -> None:
        self._acceptor = acceptor
        self._transport: asyncio.Transport
        self._address = ""
        self._port = 0
        self._buffer = bytearray()
        self._seen = 0  # bytes already searched for the end of the head
        self._proxy_header_done = False
        self._opened = False  # counted for the node
        self._claimed = False  # counted for its address
        self._done = False  # refused, or handed over
        self._admitted = False  # the head is whole, and it is this connection's turn
        self._timer: asyncio.TimerHandle | None = None

    # -- what the event loop calls

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection, or refuse it at once."""
        self._transport = transport
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self._address, self._port = normalize_address(str(peer[0])) or str(peer[0]), int(peer[1])
        acceptor = self._acceptor
        if not acceptor.accepting:
            self._turn_away(ConnectRefused(503, "this node is stopping", acceptor.settings.retry_after_s))
            return
        refused = acceptor.limits.open()
        self._opened = refused is None
        if refused is None and not acceptor.proxies.trusts(self._address):
            refused = self._claim()
        if refused is not None:
            self._turn_away(refused)
            return
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(acceptor.settings.handshake_timeout_s, transport.abort)

    def data_received(self, data: bytes) -> None:
        """Take bytes until the first head is whole."""
        if not self._done:
            self._buffer += data
            self._read()

    def eof_received(self) -> None:
        """Let the transport close itself."""

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the reason does not matter
        """Uncount the connection; not called after it was handed over."""
        self._done = True
        self._stop_timer()
        if self._claimed:
            self._acceptor.limits.release(self._address)
            self._acceptor.limits.charge_stranger(self._address)
        if self._opened:
            self._acceptor.limits.close()

    # -- reading

    def _read(self) -> None:
        try:
            if not self._proxy_header_done:
                self._read_proxy_header()
            if self._proxy_header_done:
                self._read_head()
        except proxy_header.ProxyHeaderError as error:
            self._refuse(400, str(error))
        except HeadError as error:
            self._refuse(error.status, error.reason)

    def _read_proxy_header(self) -> None:
        header = proxy_header.parse(self._buffer)
        if isinstance(header, proxy_header.NeedMore):
            if len(self._buffer) > self._acceptor.settings.head_bytes_max:
                raise HeadError(431, "the PROXY header is too large")
            return
        self._proxy_header_done = True
        if header is None:
            return
        if not self._acceptor.proxies.trusts(self._address):
            raise HeadError(400, "a PROXY header is accepted from configured proxies only")
        del self._buffer[: header.size]
        if header.address is not None:
            self._address, self._port = normalize_address(header.address) or header.address, header.port

    def _read_head(self) -> None:
        size = request_head.find_end(self._buffer, self._seen, self._acceptor.settings.head_bytes_max)
        if size is None:
            self._seen = len(self._buffer)
            return
        if not self._admitted and not self._acceptor.admission.try_enter(self._address, self._admit):
            self._transport.pause_reading()
            return
        head = request_head.parse(self._buffer[:size])
        proxies = self._acceptor.proxies
        direct = self._address
        websocket = head.wants_websocket
        if websocket:  # on an HTTP connection, a proxy may send requests of many clients
            self._address = proxies.find_client(direct, head.get_values(proxies.header))
            self._port = self._port if self._address == direct else 0
        refused = None if self._claimed else self._claim()
        if refused is not None:
            self._refuse(refused.status, refused.reason, refused.retry_after_s)
        elif websocket:
            self._open_websocket(head)
        else:
            self._hand_to_http()

    def _admit(self) -> None:
        if not self._done:
            self._admitted = True
            self._transport.resume_reading()
            self._read()

    def _claim(self) -> ConnectRefused | None:
        refused = self._acceptor.limits.claim(self._address)
        self._claimed = refused is None
        return refused

    # -- handing over

    def _open_websocket(self, head: RequestHead) -> None:
        peer_factory = self._acceptor.peer_factory
        if peer_factory is None:
            raise HeadError(404, "this port has no websockets")
        response, subprotocol = self._acceptor.handshake.answer(head)
        if subprotocol is None:
            self._answer(response)
            return
        self._hand_over()
        acceptor, transport = self._acceptor, self._transport
        connection = Connection(
            transport,
            acceptor.settings,
            asyncio.get_running_loop(),
            address=_share_text(self._address),
            subprotocol=subprotocol,
            lost=acceptor.websocket_lost,
        )
        acceptor.connections.add(connection)
        transport.set_protocol(connection)
        transport.write(response)
        connection.start(peer_factory)
        if len(self._buffer) > head.size:
            connection.data_received(bytes(self._buffer[head.size :]))

    def _hand_to_http(self) -> None:
        self._hand_over()
        connection = HttpConnection(self._acceptor.http, self._address, self._port)
        connection.connection_made(self._transport)
        self._transport.set_protocol(connection)
        connection.data_received(bytes(self._buffer))

    def _hand_over(self) -> None:
        self._done = True
        self._stop_timer()

    # -- refusing

    def _turn_away(self, refused: ConnectRefused) -> None:
        """Refuse before anything is read, and close."""
        self._done = True
        self._acceptor.refused[refused.status] += 1
        self._transport.write(_response(refused.status, refused.reason, refused.retry_after_s))
        self._transport.close()

    def _refuse(self, status: int, reason: str, retry_after_s: int | None = None) -> None:
        _log.debug("refused: %s", reason, extra={"address": self._address})
        self._acceptor.refused[status] += 1
        self._answer(_response(status, reason, retry_after_s))

    def _answer(self, response: bytes) -> None:
        """Answer and half-close. If the client does not close, too, the timer of the head ends the connection."""
        self._done = True
        self._buffer.clear()
        self._transport.write(response)
        try:
            self._transport.write_eof()
        except OSError:  # the client has already reset the connection
            self._transport.abort()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _response(status: int, reason: str, retry_after_s: int | None) -> bytes:
    body = f"{reason[0].upper()}{reason[1:]}.\n"
    retry = "" if retry_after_s is None else f"Retry-After: {retry_after_s}\r\n"
    return (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(body.encode())}\r\nConnection: close\r\n{retry}\r\n{body}"
    ).encode()
