"""One Redis instance as its users see it: there or away, never in between.

A connection is opened again whenever it is lost, at most every `_PAUSE_S`. What Redis does not answer in time counts as
lost: the connection is dropped, and callers go on. `run_id` is that of the process behind the connection: it is read
anew on each, so a Redis that was replaced or restarted is seen.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import unquote, urlsplit

from storage.bus import ANSWER_S_MAX
from storage.redis.resp import Command, RespConnection, RespError

_log = logging.getLogger(__name__)

_ANSWER_S = ANSWER_S_MAX / 2
"""For one round trip; a call makes two at most."""
_PAUSE_S = 0.25
_PORT = 6379


class RedisUrl:
    """`redis://[user[:password]@]host[:port][/database]`, or `rediss://` for TLS; raises `ValueError`."""

    def __init__(self, text: str, password: str = "") -> None:
        parts = urlsplit(text)
        if parts.scheme not in ("redis", "rediss") or not parts.hostname:
            raise ValueError(f"not a redis:// or rediss:// URL with a host: {parts.scheme}://{parts.hostname or ''}")
        self.tls = parts.scheme == "rediss"
        self.host = parts.hostname
        self.port = parts.port or _PORT
        self.database = int(parts.path.strip("/") or 0)
        self.user = unquote(parts.username or "")
        self.password = unquote(parts.password or "") or password

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    def greeting(self) -> list[Command]:
        """The commands that begin a connection."""
        commands: list[Command] = []
        if self.password:
            commands.append(("AUTH", self.user, self.password) if self.user else ("AUTH", self.password))
        if self.database:
            commands.append(("SELECT", self.database))
        return commands


async def connect(url: RedisUrl, pushed: Callable[[list[Any]], None] | None = None) -> RespConnection:
    """Open a connection and sign in; raises OSError, RespError or TimeoutError."""
    async with asyncio.timeout(_ANSWER_S):
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: RespConnection(pushed), url.host, url.port, ssl=url.tls or None
        )
        try:
            if greeting := url.greeting():
                await connection.ask(greeting, count=len(greeting))
        except BaseException:
            connection.drop()
            raise
    return connection


class RedisInstance:
    """Commands to one instance; `run` keeps a connection open until it is cancelled."""

    def __init__(self, url: RedisUrl) -> None:
        self.url = url
        self.run_id = ""
        """Of the process that answers; empty while the instance is away."""
        self.faults = 0
        """How often the connection was lost, or an answer came too late."""
        self.answers = asyncio.Event()
        """Set while the instance answers, as far as is known."""
        self._connection: RespConnection | None = None

    async def ask(self, commands: Iterable[Command], *, count: int) -> list[Any]:
        """The replies of `count` commands; raises RespError, soon, when the instance does not answer."""
        connection = self._connection
        if connection is None:
            raise RespError(f"Redis {self.url} is away")
        try:
            async with asyncio.timeout(_ANSWER_S):
                return await connection.ask(commands, count=count)
        except TimeoutError:
            connection.drop()
            raise RespError(f"Redis {self.url} does not answer") from None
        finally:
            if connection.closed and connection is self._connection:
                self._forget_connection()  # at once: nobody else waits for it

    def send(self, commands: Iterable[Command], *, count: int) -> bool:
        """Send commands without waiting for their replies; False when they were not sent."""
        return self._connection is not None and self._connection.send(commands, count=count)

    async def run(self) -> None:
        """Keep a connection."""
        while True:
            try:
                connection = await connect(self.url)
                try:
                    self.run_id = await self._read_run_id(connection)
                    self._connection = connection
                    self.answers.set()
                    _log.info("Redis %s answers", self.url)
                    await connection.lost
                finally:
                    self._forget_connection()
                    connection.drop()
                _log.warning("the connection to Redis %s is lost", self.url)
            except (OSError, RespError, TimeoutError) as error:
                _log.debug("Redis %s is away: %s", self.url, error)
            self.faults += 1
            await asyncio.sleep(_PAUSE_S)

    def _forget_connection(self) -> None:
        self._connection, self.run_id = None, ""
        self.answers.clear()

    async def _read_run_id(self, connection: RespConnection) -> str:
        async with asyncio.timeout(_ANSWER_S):
            (info,) = await connection.ask([("INFO", "server")], count=1)
        for line in bytes(info).decode().splitlines():
            if line.startswith("run_id:"):
                return line.removeprefix("run_id:").strip()
        raise RespError(f"Redis {self.url} does not say its run_id")
