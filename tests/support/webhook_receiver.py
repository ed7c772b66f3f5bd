"""A receiver of webhooks on this machine: keeps what it got, and answers as the test says."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field


@dataclass
class Request:
    """One request, as it came."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class WebhookReceiver:
    """`answer` says the status of each request, and which header comes with it."""

    port: int = 0
    requests: list[Request] = field(default_factory=list)
    answer: Callable[[Request], int] = lambda _request: 204
    headers: list[tuple[str, str]] = field(default_factory=list)
    answer_body: str = ""
    silent: bool = False
    """It answers nothing."""
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, with one request."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.split("\r\n")[:-2]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        request = Request(first.split(" ")[1], headers, body)
        self.requests.append(request)
        self.arrived.set()
        if self.silent:
            await reader.read()
        else:
            more = "".join(f"{name}: {value}\r\n" for name, value in self.headers)
            body_back = self.answer_body.encode()
            length = f"content-length: {len(body_back)}\r\n"
            writer.write(f"HTTP/1.1 {self.answer(request)} -\r\n{length}{more}\r\n".encode() + body_back)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


@contextlib.asynccontextmanager
async def receiving(tls: ssl.SSLContext | None = None) -> AsyncIterator[WebhookReceiver]:
    """A receiver that listens."""
    receiver = WebhookReceiver()
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
