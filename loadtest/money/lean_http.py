"""HTTP/1.1 with little work for a client that shares the cores of the server: one request after the other."""

from __future__ import annotations

import asyncio
from typing import Self

from loadtest.lean_client import LoadError

_HEAD_BYTES_MAX = 16_384
_ANSWER_S = 30.0


class LeanHttp:
    """One connection that is kept open."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, host: str, port: int) -> Self:
        """Connect; raises OSError."""
        return cls(*await asyncio.open_connection(host, port, limit=_HEAD_BYTES_MAX))

    async def post(self, path: str, bearer: str, key: str, body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer; raises LoadError when there is none."""
        head = (
            f"POST {path} HTTP/1.1\r\nHost: load\r\nAuthorization: Bearer {bearer}\r\nIdempotency-Key: {key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return await self._ask(path, head.encode() + body)

    async def get(self, path: str, bearer: str) -> tuple[int, bytes]:
        """Status and body of the answer; raises LoadError when there is none."""
        head = f"GET {path} HTTP/1.1\r\nHost: load\r\nAuthorization: Bearer {bearer}\r\n\r\n"
        return await self._ask(path, head.encode())

    async def _ask(self, path: str, request: bytes) -> tuple[int, bytes]:
        self._writer.write(request)
        try:
            async with asyncio.timeout(_ANSWER_S):
                head = await self._reader.readuntil(b"\r\n\r\n")
                return int(head[9:12]), await self._reader.readexactly(_length(head))
        except (TimeoutError, OSError, EOFError, ValueError) as error:
            raise LoadError(f"{path} has no answer ({type(error).__name__})") from error

    async def close(self) -> None:
        """Hang up."""
        self._writer.close()


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line[15:])
    raise ValueError("no length")
