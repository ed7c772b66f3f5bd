"""Databases of a test alone, made and dropped over one connection that is kept: a process of PostgreSQL costs more."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import asyncpg

from storage.embedded.cluster import EmbeddedPostgres


class Databases:
    """Makes databases in `postgres`, within `with`. It has a loop and a thread of its own: tests have theirs."""

    def __init__(self, postgres: EmbeddedPostgres) -> None:
        self._postgres = postgres
        self._numbers = itertools.count(1)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._connection: asyncpg.Connection[Any]

    def create(self, name: str) -> str:
        """An empty database; its URL."""
        self._execute(f"CREATE DATABASE {name}")
        return self._postgres.database_url(name)

    @contextlib.contextmanager
    def copied(self, template: str) -> Iterator[str]:
        """The URL of a copy of a database, gone at the end even if something is still connected to it."""
        name = f"test_{next(self._numbers)}"
        # Files are copied, which takes less time than to log each page, where a checkpoint costs next to nothing.
        self._execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        yield self._postgres.database_url(name)
        self._execute(f"DROP DATABASE {name} WITH (FORCE)")

    def _execute(self, statement: str) -> None:
        asyncio.run_coroutine_threadsafe(self._connection.execute(statement), self._loop).result()

    def __enter__(self) -> Self:
        self._thread.start()
        connecting = asyncio.run_coroutine_threadsafe(asyncpg.connect(self._postgres.url), self._loop)
        self._connection = connecting.result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._connection.close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
