"""Just enough of HTTP for the fake gateway: kept connections, and such as end without an answer."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

_BODY_BYTES_MAX = 1_048_576


class NoReply(enum.Enum):
    """What may come instead of a reply."""

    CUT = enum.auto()
    HANG = enum.auto()


@dataclass(frozen=True)
class Asked:
    """One request."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """One answer."""

    status: int
    body: Any
    headers: dict[str, str] = field(default_factory=dict)


Answerer = Callable[[Asked], Awaitable[Reply | NoReply]]


async def serve_connection(answer: Answerer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one connection until it ends."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
        while (reply := await answer(await _read(reader))) is not NoReply.CUT:
            if isinstance(reply, NoReply):
                await reader.read()  # until the client gives up
                break
            content = json.dumps(reply.body).encode()
            headers = {"content-type": "application/json", "content-length": str(len(content)), **reply.headers}
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            writer.write(f"HTTP/1.1 {reply.status} -\r\n{lines}\r\n".encode() + content)
            await writer.drain()
    writer.close()


async def _read(reader: asyncio.StreamReader) -> Asked:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    length = int(headers.get("content-length", "0"))
    if length > _BODY_BYTES_MAX:
        raise ValueError("too long")
    body = json.loads(await reader.readexactly(length) or b"{}")
    parts = urlsplit(target)
    return Asked(method, parts.path, dict(parse_qsl(parts.query)), headers, body if isinstance(body, dict) else {})
