"""The connections of the lanes: a write is never cancelled, and what is known of its fate is in the error.

Invariants:

* No request to cancel a statement is ever sent. With a synchronous standby it would end the wait for it, and what
  nobody has replicated would be visible. A write that gets no answer in time loses its socket instead; its statement
  may run on, and its fate is unknown.
* A wait for a lock ends after `LOCK_TIMEOUT_S`, in the server, with an error: then nothing was written. So a statement
  whose socket was closed does not wait without end either.
* Reads never take these connections.
"""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg

from storage.postgres.functions import CALL_OVERTAKEN, INCARNATION_ENDED, TARGET_ARCHIVED
from storage.postgres.pool import CONNECT_TIMEOUT_S, SESSION_SETTINGS, TargetArchivedError, prepare
from storage.unavailable import (
    IncarnationEndedError,
    LockTimeoutError,
    NothingWrittenError,
    StorageUnavailableError,
    WriteRefusedError,
)

LOCK_TIMEOUT_S = 2.0

_LATER = ("40001", "40P01", "53", "25006", CALL_OVERTAKEN)
"""Errors, or classes of them, that a later try may cure: serialization, deadlock, resources, a demoted primary; and a
call that was on its way while an earlier one was given up with it."""
_NEVER = ("0A", "21", "22", "23", "2F", "42", "54", "P0")
"""Classes of errors that the same call meets again: what it asks cannot be."""


class WriteConnections:
    """At most `size` connections to the database at `url`, each opened when it is needed first or after a failure."""

    def __init__(self, url: str, *, size: int, statement_timeout_s: float) -> None:
        self._url = url
        self._timeout_s = statement_timeout_s
        self._slots = asyncio.Semaphore(size)
        self._idle: list[asyncpg.Connection[Any]] = []
        self._closed = False
        self.in_use = 0
        """Connections that wait for the answer to a write, or for being opened."""

    async def fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        """The rows that a statement returns; one write in autocommit.

        Raises `NothingWrittenError` or `WriteRefusedError` when nothing was written, `IncarnationEndedError`, and
        `StorageUnavailableError` when the fate is unknown.
        """
        async with self._slots:
            self.in_use += 1
            try:
                return await self._fetch(query, *arguments)
            finally:
                self.in_use -= 1

    async def _fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        connection = await self._take()
        # A task of its own: cancelling the caller must not reach the driver, which would cancel the statement.
        call = asyncio.ensure_future(connection.fetch(query, *arguments))
        try:
            await asyncio.wait({call}, timeout=self._timeout_s)
        finally:
            if call.done() and not connection.is_closed() and not self._closed:
                self._idle.append(connection)
            else:
                call.add_done_callback(_look_at)
                connection.terminate()
        if not call.done():
            raise StorageUnavailableError(f"no answer within {self._timeout_s} s: the connection was closed")
        error = call.exception()
        if error is not None:
            raise _translate(error) from error
        return call.result()

    def terminate(self) -> None:
        """Close the sockets at once; further writes do not reach the database."""
        self._closed = True
        for connection in self._idle:
            connection.terminate()
        self._idle.clear()

    async def _take(self) -> asyncpg.Connection[Any]:
        if self._closed:
            raise NothingWrittenError("the connections of the lanes are closed")
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        try:
            return await self._open()
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
            raise NothingWrittenError(f"{type(error).__name__}: {error}") from error

    async def _open(self) -> asyncpg.Connection[Any]:
        lock_timeout_s = min(LOCK_TIMEOUT_S, self._timeout_s / 2)
        connection = await asyncpg.connect(
            self._url,
            timeout=CONNECT_TIMEOUT_S,
            server_settings={**SESSION_SETTINGS, "lock_timeout": f"{round(lock_timeout_s * 1000)}ms"},
        )
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await prepare(connection)
        except BaseException:
            connection.terminate()
            raise
        return connection


def _look_at(call: asyncio.Future[Any]) -> None:
    """Look at the error of a call that nobody waits for any more, so that it is not logged as forgotten."""
    if not call.cancelled():
        call.exception()


def _translate(error: BaseException) -> Exception:
    text = f"{type(error).__name__}: {error}"
    code = (error.sqlstate or "") if isinstance(error, asyncpg.PostgresError) else ""
    if code == INCARNATION_ENDED:
        return IncarnationEndedError()
    if code == TARGET_ARCHIVED:
        return TargetArchivedError(text)
    if isinstance(error, asyncpg.LockNotAvailableError):
        return LockTimeoutError(text)
    if code.startswith(_LATER):
        return NothingWrittenError(text)
    if code.startswith(_NEVER):
        return WriteRefusedError(text)
    return StorageUnavailableError(text)
