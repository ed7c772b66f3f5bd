"""A proxy between a node and PostgreSQL that loses replies: the statement was done, and its answer never comes.

It also knows which connections flush, and can keep the answer of a flush back while the node does not know of it.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

from tests.support.cutting_proxy import Client, CuttingProxy, End

_FLUSH = b" FROM flush"
"""In the text of the statement, which a connection prepares once."""
_READY = b"Z\x00\x00\x00\x05I"
"""The end of PostgreSQL's answer: the transaction is over."""


class ReplyCutter(CuttingProxy):
    """Forwards between a socket of its own and that of `url`; `url` of the cutter is what the node is given."""

    def __init__(self, url: str, rng: random.Random | None = None) -> None:
        super().__init__(rng)
        self.lost = 0
        self.kept_back = False
        """Whether the answer of a flush is kept back."""
        self._parts = urlsplit(url)
        self._folder = Path(tempfile.mkdtemp(prefix="tchat-cutter-"))  # the path of a socket must be short
        self._losing: set[End] = set()
        self._lanes: set[End] = set()
        self.lead_to(url)

    @property
    def url(self) -> str:
        """The same database, through this proxy."""
        return self._parts._replace(query=f"host={quote(str(self._folder), safe='')}&port=5432").geturl()

    def lead_to(self, url: str) -> None:
        """Make new connections to this PostgreSQL."""
        query = parse_qs(urlsplit(url).query)
        self.targets = [Path(query["host"][0]) / f".s.PGSQL.{query['port'][0]}"]

    async def open(self) -> None:
        """Listen."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(self.accept, self._folder / ".s.PGSQL.5432")

    async def close(self) -> None:
        """End all connections."""
        await super().close()
        shutil.rmtree(self._folder)

    def lose_replies(self) -> None:
        """Cut each connection when PostgreSQL next answers on it, before the answer."""
        self._losing = set(self._clients)

    def keep_flushes_back(self) -> None:
        """Hold all answers from the next flush on, until `release`; `kept_back` says when there is one."""
        self.kept_back = False
        self.hold(to_server=False)

    def calm(self) -> None:
        """Lose no more replies than were lost."""
        self._losing.clear()
        super().calm()

    def passes(self, end: End, data: bytes) -> bool:
        if end.to_server:
            if _FLUSH in data:
                self._lanes.add(end)
            return True
        client = end.other
        assert client is not None
        if client in self._losing:
            self._losing.discard(client)
            self.lost += 1
            client.abort()
            return False
        if client in self._lanes and self.holds(to_server=False) and data.endswith(_READY):
            self.kept_back = True
        return True

    def left(self, end: Client) -> None:
        super().left(end)
        self._losing.discard(end)
        self._lanes.discard(end)
