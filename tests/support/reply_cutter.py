"""A proxy between a node and PostgreSQL that loses replies: the statement was done, and its answer never comes."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit


class ReplyCutter:
    """Forwards between a socket of its own and that of `url`; `url` of the cutter is what the node is given."""

    def __init__(self, url: str) -> None:
        self.lost = 0
        self._parts = urlsplit(url)
        query = parse_qs(self._parts.query)
        self._socket = f".s.PGSQL.{query['port'][0]}"
        self._target = Path(query["host"][0]) / self._socket
        self._folder = Path(tempfile.mkdtemp(prefix="tchat-cutter-"))  # the path of a socket must be short
        self._server: asyncio.Server
        self._links: set[_Link] = set()

    @property
    def url(self) -> str:
        """The same database, through this proxy."""
        port = self._socket.rpartition(".")[2]
        return self._parts._replace(query=f"host={quote(str(self._folder), safe='')}&port={port}").geturl()

    async def open(self) -> None:
        """Listen."""
        self._server = await asyncio.start_unix_server(self._serve, self._folder / self._socket)

    def close(self) -> None:
        """End all connections."""
        self._server.close()
        for link in self._links:
            link.abort()
        shutil.rmtree(self._folder)

    def lose_replies(self) -> None:
        """Cut each connection when PostgreSQL next answers on it, before the answer."""
        for link in self._links:
            link.cuts = True

    def cut(self) -> None:
        """End all connections now; new ones are made."""
        for link in self._links:
            link.abort()

    def spare(self) -> None:
        """Lose no more replies than were lost."""
        for link in self._links:
            link.cuts = False

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            from_postgres, to_postgres = await asyncio.open_unix_connection(self._target)
        except OSError:  # there is no PostgreSQL at the moment
            writer.transport.abort()
            return
        link = _Link(writer, to_postgres)
        self._links.add(link)
        asking = asyncio.ensure_future(_forward(reader, to_postgres))
        try:
            while data := await from_postgres.read(65_536):
                if link.cuts:
                    self.lost += 1
                    break
                writer.write(data)
        except OSError:
            pass
        link.abort()
        self._links.discard(link)
        asking.cancel()
        await asyncio.wait({asking})


class _Link:
    """One connection of the node."""

    def __init__(self, *ends: asyncio.StreamWriter) -> None:
        self.cuts = False
        self._ends = ends

    def abort(self) -> None:
        for end in self._ends:
            end.transport.abort()


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """What the node says; when it is gone, PostgreSQL learns it."""
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    writer.close()
