"""The driver as coroutines: bounded, answered from other threads, and never a hang, whatever becomes of the server."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import logging
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cassandra import OperationTimedOut

from protocol.ids import new_id
from storage.cql import driver as module
from storage.cql.archive import CqlArchive
from storage.cql.driver import CqlServer
from storage.cql.session import CqlSession, Prepared, Quota, Rows
from storage.unavailable import StorageTimeoutError, StorageUnavailableError
from tests.engines.cassandra_server import CassandraServer
from tests.engines.certificates import write_certificates
from tests.engines.server_process import free_port
from tests.support.rows import posted

pytestmark = pytest.mark.anyio

NOWHERE = CqlServer(("127.0.0.1",), 1, "tchat")


class FakeDriver:
    """A session of the driver that answers when the test says so, in a thread of its own."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, Callable[[], None], Callable[[], None]]] = []
        self.came = threading.Semaphore(0)

    def execute_async(self, statement: Any, *, timeout: float) -> FakeDriver:
        assert timeout == 5.0
        if statement == "refused":
            raise OperationTimedOut
        self._statement = statement
        return self

    def add_callbacks(
        self,
        answer: Callable[..., None],
        fail: Callable[..., None],
        *,
        callback_args: tuple[Any, ...],
        errback_args: tuple[Any, ...],
    ) -> None:
        rows = [(self._statement,)]
        self.asked.append(
            (self._statement, lambda: answer(rows, *callback_args), lambda: fail(OperationTimedOut(), *errback_args))
        )
        self.came.release()

    async def wait_for(self, count: int) -> None:
        """Until so many further statements have come."""
        for _ in range(count):
            assert await asyncio.to_thread(self.came.acquire, timeout=10)

    async def answer(self, *numbers: int, failing: bool = False) -> None:
        """Answer these statements, by the order in which they came."""

        def run() -> None:
            for number in numbers:
                self.asked[number][2 if failing else 1]()

        await asyncio.to_thread(run)


@pytest.fixture
async def driver() -> FakeDriver:
    return FakeDriver()


@pytest.fixture
async def session(driver: FakeDriver) -> AsyncIterator[CqlSession]:
    session = CqlSession(NOWHERE, {})
    session._session = driver
    yield session
    await session.close()


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port on several addresses that takes connections and says nothing."""
    with socket.create_server(("0.0.0.0", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_server_shows_no_password() -> None:
    assert "secret" not in repr(CqlServer(("127.0.0.1",), 1, "tchat", "somebody", "secret"))


async def test_hosts_that_take_connections_and_say_nothing_are_waited_for_once(
    silent_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CONNECT_TIMEOUT_S", 0.5)
    monkeypatch.setattr(module, "ANSWER_TIMEOUT_S", 0.01)
    server = CqlServer(tuple(f"127.0.0.{host}" for host in range(1, 10)), silent_port, "tchat")
    async with asyncio.timeout(20):
        with pytest.raises(StorageTimeoutError, match="no host answered"):
            await asyncio.to_thread(module.connect, server, None)


@asynccontextmanager
async def opened(server: CqlServer, timeout_s: float) -> AsyncIterator[CqlArchive]:
    archive = CqlArchive(server, read_timeout_s=timeout_s, write_timeout_s=timeout_s)
    try:
        yield archive
    finally:
        await archive.close()


def ask(session: CqlSession, statement: str, quota: Quota) -> asyncio.Task[Rows]:
    return asyncio.ensure_future(session.execute(statement, quota))


async def test_statements_on_their_way_are_bounded(session: CqlSession, driver: FakeDriver) -> None:
    quota = Quota(2, 5.0)
    tasks = [ask(session, str(number), quota) for number in range(4)]
    await driver.wait_for(2)
    assert len(driver.asked) == 2
    await driver.answer(0)
    await driver.wait_for(1)
    await driver.answer(1, 2)
    await driver.wait_for(1)
    await driver.answer(3)
    assert [await task for task in tasks] == [[(str(number),)] for number in range(4)]


async def test_sorts_of_statements_do_not_wait_for_each_other(session: CqlSession, driver: FakeDriver) -> None:
    full = Quota(1, 5.0)
    waiting = [ask(session, "write", full) for _ in range(2)]
    reading = ask(session, "read", Quota(1, 5.0))
    await driver.wait_for(2)
    await driver.answer([each[0] for each in driver.asked].index("read"))
    assert await reading == [("read",)]
    await driver.answer([each[0] for each in driver.asked].index("write"))
    await driver.wait_for(1)
    await driver.answer(2)
    assert await asyncio.gather(*waiting) == [[("write",)], [("write",)]]


async def test_who_stops_waiting_leaves_its_place_taken_until_the_driver_has_answered(
    session: CqlSession, driver: FakeDriver
) -> None:
    quota = Quota(1, 5.0)
    first = ask(session, "first", quota)
    await driver.wait_for(1)
    first.cancel()
    second = ask(session, "second", quota)
    await asyncio.gather(first, return_exceptions=True)
    assert len(driver.asked) == 1
    await driver.answer(0)
    await driver.wait_for(1)
    await driver.answer(1)
    assert await second == [("second",)]


async def test_many_answers_wake_the_loop_once(
    session: CqlSession, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = [ask(session, str(number), Quota(1, 5.0)) for number in range(20)]
    await driver.wait_for(20)
    woken = 0
    loop = asyncio.get_running_loop()
    wake = loop.call_soon_threadsafe

    def count(callback: Callable[..., object], *arguments: Any, **more: Any) -> asyncio.Handle:
        nonlocal woken
        woken += getattr(callback, "__name__", "") == "_hand_over"
        return wake(callback, *arguments, **more)

    monkeypatch.setattr(loop, "call_soon_threadsafe", count)
    for number in range(20):  # before the loop looks again
        driver.asked[number][1]()
    await asyncio.gather(*tasks)
    assert woken == 1


async def test_a_failure_says_what_it_means_to_who_asked(session: CqlSession, driver: FakeDriver) -> None:
    late = ask(session, "late", Quota(1, 5.0))
    await driver.wait_for(1)
    await driver.answer(0, failing=True)
    with pytest.raises(StorageTimeoutError, match="OperationTimedOut"):
        await late
    quota = Quota(1, 5.0)
    for _ in range(2):  # its place is free again
        with pytest.raises(StorageTimeoutError):
            await session.execute("refused", quota)


async def test_after_the_end_nothing_is_sent(session: CqlSession, driver: FakeDriver) -> None:
    await session.close()
    with pytest.raises(StorageUnavailableError, match="closed"):
        await session.execute("late", Quota(1, 5.0))
    assert driver.asked == []


async def test_a_server_that_is_away_is_unavailable_and_tried_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    connect = CqlSession._open

    def count(session: CqlSession) -> Prepared:
        tried.append(session)
        return connect(session)

    monkeypatch.setattr(CqlSession, "_open", count)
    async with opened(CqlServer(("127.0.0.1",), free_port(), "tchat"), 5.0) as archive:
        results = await asyncio.gather(*(archive.read_tags(new_id(), 1, 1) for _ in range(3)), return_exceptions=True)
        for result in results:
            assert isinstance(result, StorageUnavailableError)
            assert "NoHostAvailable" in str(result)
        with pytest.raises(StorageUnavailableError, match="NoHostAvailable"):
            await archive.write([posted(new_id(), 1)])
        assert len(tried) == 1


async def test_a_keyspace_that_was_never_migrated_says_what_to_do(cql_server: CqlServer, cql_keyspace: str) -> None:
    async with opened(CqlServer(cql_server.hosts, cql_server.port, cql_keyspace), 5.0) as archive:
        with pytest.raises(StorageUnavailableError, match="run `tchat migrate`"):
            await archive.read_tags(new_id(), 1, 1)


async def test_no_level_logs_what_is_written(cql_server: CqlServer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        async with opened(cql_server, 10.0) as archive:
            row = posted(new_id(), 1, "a private word")
            await archive.write([row], epoch=1)
            assert await archive.read_rows(row.event.dialog, [1]) == [row]
    assert "a private word" not in caplog.text


async def test_a_server_that_hangs_is_unavailable_in_time_and_goes_on_afterwards(
    cql_server: CqlServer, breakable_cassandra: CassandraServer
) -> None:
    dialog = new_id()
    rows = [posted(dialog, seq) for seq in range(1, 100)]
    async with opened(cql_server, 0.5) as archive:
        await until_it_answers(archive)
        await archive.write(rows)
        breakable_cassandra.pause()
        attempts = [archive.read_tags(dialog, 1, 99) for _ in range(20)]  # more than may be on their way
        attempts_to_write = [archive.write(rows) for _ in range(3)]
        results = await asyncio.gather(*attempts, *attempts_to_write, return_exceptions=True)
        assert {type(result) for result in results} == {StorageTimeoutError}
        breakable_cassandra.resume()
        await until_it_answers(archive)
        await archive.write(rows)
        assert len(await archive.read_tags(dialog, 1, 99)) == 99


async def test_a_server_that_hangs_delays_the_end_of_no_node(
    cql_server: CqlServer, breakable_cassandra: CassandraServer
) -> None:
    async with opened(cql_server, 60.0) as archive:
        await until_it_answers(archive)
        breakable_cassandra.pause()
        reading = asyncio.ensure_future(archive.read_tags(new_id(), 1, 1))
        writing = asyncio.ensure_future(archive.write([posted(new_id(), 1)]))
        await asyncio.sleep(0)
    for waiting in (reading, writing):
        with pytest.raises(StorageUnavailableError):
            await asyncio.wait_for(waiting, 10)


async def test_rows_are_whole_after_a_restart_between_their_batches(
    cql_server: CqlServer, breakable_cassandra: CassandraServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialogs = [new_id() for _ in range(30)]
    rows = [posted(dialog, seq) for seq in range(1, 101) for dialog in dialogs]
    statements = itertools.count(1)
    execute = CqlSession.execute

    async def kill_at_the_twentieth(session: CqlSession, statement: Any, quota: Quota) -> Rows:
        if next(statements) == 20:
            breakable_cassandra.kill()
        return await execute(session, statement, quota)

    async with opened(cql_server, 10.0) as archive:
        await until_it_answers(archive)
        monkeypatch.setattr(CqlSession, "execute", kill_at_the_twentieth)
        with pytest.raises(StorageUnavailableError):
            await archive.write(rows)
        monkeypatch.undo()
        assert next(statements) < len(rows) // 30  # it did not try them all
        breakable_cassandra.start()
        await until_it_answers(archive)
        await archive.write(rows)
        for dialog in dialogs:
            found = await archive.read_range(dialog, 1, 100, limit=100, newest_first=False)
            assert found == [row for row in rows if row.event.dialog == dialog]


async def until_it_answers(archive: CqlArchive) -> None:
    """Ask until it does: the driver connects again by itself."""
    async with asyncio.timeout(30):
        while True:
            try:
                await archive.read_tags(new_id(), 1, 1)
            except StorageUnavailableError:
                await asyncio.to_thread(threading.Event().wait, 0.05)
            else:
                return


@pytest.mark.cassandra
async def test_over_tls_a_host_is_trusted_whose_authority_is(cassandra: CassandraServer, cql_server: CqlServer) -> None:
    encrypted = dataclasses.replace(cql_server, tls_ca=cassandra.tls_ca, local_dc="datacenter1")
    async with opened(encrypted, 20.0) as archive:
        dialog = new_id()
        await archive.write([posted(dialog, 1, "x" * 30_000)])
        assert await archive.read_tags(dialog, 1, 1) == {1: 1}
        assert "ssl" in type(archive._session._cluster.ssl_context).__module__


@pytest.mark.cassandra
def test_what_is_wrong_with_an_archive_is_said(cql_server: CqlServer, tmp_path: Path) -> None:
    write_certificates(tmp_path / "other.pem", tmp_path / "unused.pem", "127.0.0.1")
    (tmp_path / "empty.pem").write_text("")
    for wrong, error, check in (
        ({"tls_ca": tmp_path / "other.pem"}, "certificate verify failed", "storage.cql_tls_ca"),
        ({"tls_ca": tmp_path / "empty.pem"}, "no certificates", "cql_tls_ca"),
        ({"local_dc": "nowhere"}, "nowhere", "cql_local_dc"),
    ):
        with pytest.raises(StorageUnavailableError, match=error) as raised:
            module.connect(dataclasses.replace(cql_server, **wrong), None)
        assert check in module.what_to_check(raised.value)
