"""The driver's session as coroutines: statements on their way, bounded in number and in time.

Invariants: the driver's threads touch the loop through `call_soon_threadsafe` alone, once for all answers that came
meanwhile. Its blocking calls (connecting; sending, which may wait for a connection) run in threads of ours, not on the
loop. A statement keeps its place in its quota until the driver has answered it, whoever stopped waiting: the driver
answers each within its time-out.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from storage.cql.driver import CqlServer, as_unavailable, connect
from storage.unavailable import StorageUnavailableError

Rows = list[tuple[Any, ...]]
Prepared = Mapping[str, Any]

_CONNECT_PAUSE_S = 1.0
"""After an attempt to connect has failed, statements are refused for so long without another one."""


class Quota:
    """How many statements of one sort are on their way at once, and how long each may take."""

    def __init__(self, places: int, timeout_s: float) -> None:
        self.places = asyncio.Semaphore(places)
        self.timeout_s = timeout_s


class CqlSession:
    """A session that connects when the first statement comes, and again when that failed.

    `statements` are prepared, by name.
    """

    def __init__(self, server: CqlServer, statements: Mapping[str, str]) -> None:
        self._server = server
        self._statements = statements
        self._loop = asyncio.get_running_loop()
        self._connecting: asyncio.Task[Prepared] | None = None
        self._failed_at = -_CONNECT_PAUSE_S
        self._failure = ""
        self._cluster: Any = None
        self._session: Any = None
        self._sender = ThreadPoolExecutor(2, thread_name_prefix="cql")
        self._answered: deque[tuple[Quota, asyncio.Future[Rows], Rows, BaseException | None]] = deque()
        self._woken = False
        self._closed = False

    async def prepare(self) -> Prepared:
        """The prepared statements, by name; connects if need be. Raises StorageUnavailableError."""
        if self._connecting is None:
            if self._loop.time() < self._failed_at + _CONNECT_PAUSE_S:
                raise StorageUnavailableError(self._failure)
            self._connecting = asyncio.ensure_future(self._connect())
        return await asyncio.shield(self._connecting)

    async def _connect(self) -> Prepared:
        try:
            return await asyncio.to_thread(self._open)
        except StorageUnavailableError as error:
            self._connecting, self._failed_at, self._failure = None, self._loop.time(), str(error)
            raise

    def _open(self) -> Prepared:
        """In a thread of ours."""
        session = connect(self._server, self._server.keyspace)
        try:
            prepared = {name: session.prepare(text) for name, text in self._statements.items()}
        except Exception as error:  # the driver raises errors of many families
            session.cluster.shutdown()
            raise as_unavailable(error) from error
        for each in prepared.values():
            each.is_idempotent = True
            each.fetch_size = None  # a page ends by its LIMIT
        self._cluster, self._session = session.cluster, session
        return prepared

    async def execute(self, statement: Any, quota: Quota) -> Rows:
        """Run a bound statement or a batch; waits for a place. Raises StorageUnavailableError."""
        await quota.places.acquire()
        if self._closed:
            quota.places.release()
            raise StorageUnavailableError("the archive is closed")
        future: asyncio.Future[Rows] = self._loop.create_future()
        self._sender.submit(self._send, statement, quota, future)
        return await future

    def find_replicas(self, key: bytes) -> frozenset[int]:
        """Something that is equal for partitions on the same replicas, as far as the driver knows."""
        return frozenset(map(id, self._cluster.metadata.get_replicas(self._server.keyspace, key)))

    def _send(self, statement: Any, quota: Quota, future: asyncio.Future[Rows]) -> None:
        """In a thread of ours."""
        try:
            response = self._session.execute_async(statement, timeout=quota.timeout_s)
            response.add_callbacks(
                self._answer, self._fail, callback_args=(quota, future), errback_args=(quota, future)
            )
        except Exception as error:  # noqa: BLE001 - it is raised where the answer is awaited
            self._fail(error, quota, future)

    def _fail(self, error: BaseException, quota: Quota, future: asyncio.Future[Rows]) -> None:
        self._answer([], quota, future, error)

    def _answer(
        self, rows: Rows | None, quota: Quota, future: asyncio.Future[Rows], error: BaseException | None = None
    ) -> None:
        """In any thread: note the answer, and wake the loop unless it was woken and has not looked yet."""
        self._answered.append((quota, future, rows or [], error))
        if not self._woken:
            self._woken = True
            self._loop.call_soon_threadsafe(self._hand_over)

    def _hand_over(self) -> None:
        """On the loop: give every answer to who waits for it. What comes from now on wakes the loop again."""
        self._woken = False
        while self._answered:
            quota, future, rows, error = self._answered.popleft()
            quota.places.release()
            if future.cancelled():
                continue
            if error is None:
                future.set_result(rows)
            else:
                future.set_exception(as_unavailable(error))

    async def close(self) -> None:
        """Close the connections; who still waits gets StorageUnavailableError."""
        self._closed = True
        if self._connecting is not None:
            await asyncio.wait([self._connecting])
        await asyncio.to_thread(self._shut_down)

    def _shut_down(self) -> None:
        """In a thread of ours."""
        self._sender.shutdown()
        if self._cluster is not None:
            self._cluster.shutdown()
