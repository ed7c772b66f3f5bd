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
from collections.abc import Coroutine, Mapping
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

    def __init__(
        self, url: str, *, size: int, statement_timeout_s: float, settings: Mapping[str, str] = SESSION_SETTINGS
    ) -> None:
        self._url = url
        self._settings = settings
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
        await self._slots.acquire()
        self.in_use += 1
        try:
            connection = self._find_idle() or await self._open()
            return await self._fetch(connection, query, *arguments)
        finally:
            self.in_use -= 1
            self._slots.release()

    async def _fetch(self, connection: asyncpg.Connection[Any], query: str, *arguments: object) -> list[asyncpg.Record]:
        loop = asyncio.get_running_loop()
        call = _Call(connection.fetch(query, *arguments), loop.create_future())
        timer = loop.call_later(self._timeout_s, call.give_up)
        try:
            await call.settled
        finally:
            timer.cancel()
            if call.ended and not connection.is_closed() and not self._closed:
                self._idle.append(connection)
            else:
                connection.terminate()
        if not call.ended:
            raise StorageUnavailableError(f"no answer within {self._timeout_s} s: the connection was closed")
        if call.error is not None:
            raise _translate(call.error) from call.error
        return call.rows

    def terminate(self) -> None:
        """Close the sockets at once; further writes do not reach the database."""
        self._closed = True
        for connection in self._idle:
            connection.terminate()
        self._idle.clear()

    def _find_idle(self) -> asyncpg.Connection[Any] | None:
        if self._closed:
            raise NothingWrittenError("the connections of the lanes are closed")
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        return None

    async def _open(self) -> asyncpg.Connection[Any]:
        try:
            return await self._connect()
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
            raise NothingWrittenError(f"{type(error).__name__}: {error}") from error

    async def _connect(self) -> asyncpg.Connection[Any]:
        lock_timeout_s = min(LOCK_TIMEOUT_S, self._timeout_s / 2)
        connection = await asyncpg.connect(
            self._url,
            timeout=CONNECT_TIMEOUT_S,
            server_settings={**self._settings, "lock_timeout": f"{round(lock_timeout_s * 1000)}ms"},
        )
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await prepare(connection)
        except BaseException:
            connection.terminate()
            raise
        return connection


class _Call:
    """A call of the driver that goes on, whatever becomes of who waits for it.

    Cancelling who waits must not reach the driver, which would cancel the statement. A task of its own would cost half
    as much again as the driver, so there is none: the call begins at once, and what it waits for takes it on.
    """

    __slots__ = ("_call", "ended", "error", "rows", "settled")

    def __init__(
        self, call: Coroutine[asyncio.Future[object] | None, None, list[asyncpg.Record]], settled: asyncio.Future[None]
    ) -> None:
        self._call = call
        self.ended = False
        self.rows: list[asyncpg.Record] = []
        self.error: BaseException | None = None
        self.settled = settled
        """Done when the call has ended, or was given up."""
        self._go_on()

    def give_up(self) -> None:
        """Wait for its end no longer."""
        if not self.settled.done():
            self.settled.set_result(None)

    def _go_on(self, _done: asyncio.Future[object] | None = None) -> None:
        try:
            awaited = self._call.send(None)
        except StopIteration as end:
            self.rows = end.value
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - who waits translates it
            self.error = error
        else:
            if awaited is None:  # it only lets others have their turn
                asyncio.get_running_loop().call_soon(self._go_on)
            else:
                awaited.add_done_callback(self._go_on)
            return
        self.ended = True
        self.give_up()


def _translate(error: BaseException) -> Exception:
    # Without the DETAIL of PostgreSQL, which quotes rows: this text may be logged.
    text = f"{type(error).__name__}: {error.args[0] if error.args else ''}"
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
