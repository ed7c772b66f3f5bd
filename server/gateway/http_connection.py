"""One HTTP connection: uvicorn's protocol class with limits and stricter rules.

It takes over the transport from the acceptor, and the bytes received so far. It adds what uvicorn lacks: limits on the
time and the size of a request, a time limit for a client that stops reading, a refusal of upgrades after the first
request, and the client's address behind a trusted proxy. And it never sends an error where the client would take it for
the response to an earlier request.

What surrounds a body (the heads of its chunks, their extensions) is bounded as the head of the request is, and trailers
are refused: uvicorn collects them without a bound. So are bodies that wait for their end on all connections together.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from email.utils import formatdate
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from server.clock import Clock
from server.config.settings import GatewaySettings
from server.gateway.forwarded import TrustedProxies

ASGISend = Callable[[dict[str, Any]], Awaitable[None]]
ASGIApp = Callable[[Any, Any, Any], Awaitable[None]]

# Uvicorn logs a warning for each malformed request: any client could fill the log.
_uvicorn_log = logging.getLogger(f"{__name__}.uvicorn")
_uvicorn_log.setLevel(logging.ERROR)

_PIPELINED_MAX = 16
_PARSED_AT_ONCE_BYTES = 16_384
_WAITING_BYTES_MAX = 8_388_608
"""Of bodies whose end has not arrived, on all connections: above it the one that waits for the longest time is ended.
Thus who holds many of them open does not end those of others, which are whole a moment later."""
_REFUSED_UPGRADE = b"A websocket needs a connection of its own: ask for it in the first request.\n"


class HttpServer:
    """What all HTTP connections of a port share, and the set of them."""

    def __init__(
        self,
        app: ASGIApp,
        settings: GatewaySettings,
        clock: Clock,
        proxies: TrustedProxies,
        *,
        lost: Callable[["HttpConnection"], None],
    ) -> None:
        """`lost(connection)` is called once for each connection, when its transport is lost."""
        self.settings = settings
        self.proxies = proxies
        self.lost = lost
        self.waiting: dict[HttpConnection, int] = {}
        """Bytes of bodies whose end has not arrived, those that began to arrive first in front."""
        self.waiting_bytes = 0
        """All of them."""
        self.statuses: Counter[int] = Counter()
        """Responses of the app, by status."""
        self.state = ServerState()
        self._app = app
        self.config = Config(
            self._answer,
            http=HttpToolsProtocol,
            ws="none",
            interface="asgi3",
            lifespan="off",  # the node starts and stops what the app uses
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=settings.http_idle_timeout_s,
        )
        self.config.load()
        self._clock = clock
        self._date_s = 0

    @property
    def connections(self) -> list["HttpConnection"]:
        """Open connections."""
        return [connection for connection in self.state.connections if isinstance(connection, HttpConnection)]

    async def _answer(self, scope: Any, receive: Any, send: ASGISend) -> None:
        async def send_counted(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                self.statuses[message["status"]] += 1
            await send(message)

        await self._app(scope, receive, send_counted)

    def refresh_date(self) -> None:
        """Update the Date header of the responses."""
        now_s = self._clock.wall_ms() // 1000
        if now_s != self._date_s:
            self._date_s = now_s
            self.state.default_headers = [(b"date", formatdate(now_s, usegmt=True).encode())]


class HttpConnection(HttpToolsProtocol):
    """One HTTP connection; uvicorn does keep-alive and pipelining."""

    def __init__(self, server: HttpServer, address: str, port: int) -> None:
        """`address` is that of the client, or of a trusted proxy that names the client in each request."""
        super().__init__(config=server.config, server_state=server.state, app_state={})
        self.logger = _uvicorn_log
        self.address = address
        self._http = server
        self._port = port
        self._begun = False  # the head of a request has been complete
        self._in_head = False  # the head of a request is incomplete
        self._in_body = False  # the head is complete, the body is not
        self.refused = False
        """Whether it sent what is no request."""
        self._other_bytes = 0  # of the head at hand, or of what surrounds the body at hand
        self._ended = False  # nothing more is read
        self._arrival: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take over a connection from the acceptor."""
        super().connection_made(transport)
        self.client = (self.address, self._port)

    def connection_lost(self, exc: Exception | None) -> None:
        """Release everything."""
        super().connection_lost(exc)
        self._cancel_arrival()
        self._forget_body()
        self.resume_writing()
        self._unset_keepalive_if_required()  # uvicorn does not if the connection ended in an error
        self._http.lost(self)

    def data_received(self, data: bytes) -> None:
        """Take bytes; start a timer until their request is complete."""
        for start in range(0, len(data), _PARSED_AT_ONCE_BYTES):
            if self._ended:
                return
            self._parse(data[start : start + _PARSED_AT_ONCE_BYTES])
        if self._arrival is None and (self._in_head or self._in_body) and not self.transport.is_closing():
            self._arrival = self.loop.call_later(self._http.settings.http_request_timeout_s, self.transport.abort)

    def on_message_begin(self) -> None:
        """Note the start of a request."""
        super().on_message_begin()
        self._in_head = True
        self._other_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field of the head; raise `ValueError` for one that follows the body."""
        if self._in_body:
            raise ValueError("fields after the body are not accepted")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Check the head, then start the app; answer a request for a websocket with a refusal."""
        self._check_head()
        self._http.refresh_date()
        self._begun, self._in_head, self._in_body = True, False, True
        self._other_bytes = 0
        self.scope["client"] = self._client()
        upgrade = self.parser.should_upgrade()
        if upgrade and self._asks_for_websocket():
            self.app = _refuse_upgrade
        super().on_headers_complete()
        if upgrade:
            # After an upgrade the parser stops, so nothing after this request can be read.
            self._ended = True
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._other_bytes -= len(body)
        self._http.waiting[self] = self._http.waiting.get(self, 0) + len(body)
        self._http.waiting_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Expect the next request."""
        super().on_message_complete()
        self._in_body = False
        self._cancel_arrival()
        self._forget_body()

    def send_400_response(self, msg: str) -> None:
        """Answer bytes that are no request, but never where an earlier request waits for its response."""
        self._ended = self.refused = True
        if not self._begun or self.cycle.response_complete:
            super().send_400_response(msg)
        elif not self._in_body:
            self.cycle.keep_alive = False
        elif self.cycle.response_started or self.pipeline:
            self.transport.close()
        else:  # the error is in the body that the app is waiting for
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            super().send_400_response(msg)

    def pause_writing(self) -> None:
        """Start a timer for a client that has stopped reading its response."""
        super().pause_writing()
        if self._stall is None:
            self._stall = self.loop.call_later(self._http.settings.http_request_timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        """Continue the response, and stop the timer."""
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def abandon(self) -> None:
        """End the connection in the middle of a body, and forget the body at once."""
        self._ended = True
        self._forget_body()
        self.cycle.body = bytearray()
        self.cycle.disconnected = True
        self.cycle.message_event.set()
        self.transport.abort()

    def _parse(self, data: bytes) -> None:
        self._other_bytes += len(data)
        super().data_received(data)
        incomplete = self._in_head or self._in_body
        if incomplete and not self._ended and self._other_bytes > self._http.settings.head_bytes_max:
            self.send_400_response("The request head is too large." if self._in_head else "The chunks are too small.")
        while self._http.waiting_bytes > _WAITING_BYTES_MAX:
            next(iter(self._http.waiting)).abandon()

    def _check_head(self) -> None:
        """Raise `ValueError` for an unacceptable head; the parser then treats the request as malformed."""
        if len(self.pipeline) >= _PIPELINED_MAX:
            raise ValueError("too many requests at once")
        if sum(len(name) + len(value) for name, value in self.headers) > self._http.settings.head_bytes_max:
            raise ValueError("the request head is too large")
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (hosts == 0 and self.parser.get_http_version() == "1.1"):
            raise ValueError("there must be exactly one Host header")

    def _client(self) -> tuple[str, int]:
        proxies = self._http.proxies
        if not proxies.trusts(self.address):
            return self.address, self._port
        name = proxies.header.encode()
        values = [value.decode("latin-1") for field, value in self.headers if field == name]
        return proxies.find_client(self.address, values), 0

    def _asks_for_websocket(self) -> bool:
        return any(name == b"upgrade" and b"websocket" in value.lower() for name, value in self.headers)

    def _forget_body(self) -> None:
        self._http.waiting_bytes -= self._http.waiting.pop(self, 0)

    def _cancel_arrival(self) -> None:
        if self._arrival is not None:
            self._arrival.cancel()
            self._arrival = None


async def _refuse_upgrade(_scope: MutableMapping[str, Any], _receive: Callable[..., Any], send: ASGISend) -> None:
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(_REFUSED_UPGRADE)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 400, "headers": headers})
    await send({"type": "http.response.body", "body": _REFUSED_UPGRADE})
