"""One node serves a database; what a life that has ended left running is waited for."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator

import pytest

from protocol.dialog_types import DialogType
from storage.postgres import functions, incarnations
from storage.postgres.incarnations import DatabaseInUseError, NodeLock
from storage.postgres.journal import PostgresJournal
from storage.rows import VerdictCode
from storage.unavailable import IncarnationEndedError
from tests.support.world import World, message

pytestmark = pytest.mark.anyio


@contextlib.asynccontextmanager
async def taken(url: str) -> AsyncIterator[NodeLock]:
    lock = await NodeLock.take(url, patience_s=0.0)
    yield lock
    await lock.release()


async def gone(database: World, pid: int) -> None:
    """Return when PostgreSQL has ended a connection of ours."""
    while await database.pool.fetchval("SELECT count(*) FROM pg_stat_activity WHERE pid = $1", pid):
        pass


async def test_a_second_node_is_refused_and_learns_who_serves(database_url: str, world: World) -> None:
    async with taken(database_url) as first:
        with pytest.raises(DatabaseInUseError, match=r"^Node test serves this database since 20\d\d-.* UTC.* stop it"):
            await NodeLock.take(database_url, patience_s=0.0)
        pid = first._connection.get_server_pid()
    await gone(world, pid)
    async with taken(database_url):
        pass


async def test_replacing_ends_and_fences_every_incarnation_before(database_url: str, world: World) -> None:
    second = await world.journal.begin_incarnation("second")
    async with taken(database_url) as lock:
        await lock.replace()
        rows = await world.pool.fetch("SELECT ended_at_ms > 0, fenced_at_ms >= ended_at_ms FROM incarnations")
        assert [tuple(row) for row in rows] == [(True, True)] * second
        assert await PostgresJournal(world.pool, world.pool).begin_incarnation("third") == second + 1


async def test_a_node_that_replaces_another_waits_for_its_statement_and_sees_what_it_wrote(
    database_url: str, world: World
) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    async with taken(database_url) as lock:
        async with world.held(dialog):
            late = asyncio.ensure_future(world.flush(message(dialog, ann), wait=True))
            await world.until_a_flush_waits()
            replacing = asyncio.ensure_future(lock.replace())
            while not await world.pool.fetchval("SELECT ended_at_ms FROM incarnations"):
                pass
            with pytest.raises(IncarnationEndedError):  # at once: it does not queue behind who waits
                await world.say(dialog, bo)
            assert not replacing.done()
            assert await world.pool.fetchval("SELECT fenced_at_ms FROM incarnations") is None
        await replacing
        assert await world.pool.fetchval("SELECT max(seq) FROM journal") == 2
        assert [verdict.code for verdict in await late] == [VerdictCode.OK]


async def test_a_statement_that_does_not_end_is_logged_and_then_prevents_the_start(
    database_url: str, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async with taken(database_url) as lock, world.pool.acquire() as other, other.transaction():
        await other.execute("SELECT hold_incarnation($1)", world.incarnation)
        pid = other.get_server_pid()
        with pytest.raises(DatabaseInUseError, match=rf"A statement of node test.*\(pid {pid} for \d+ s\)"):
            await lock.replace(wait_s=0.001, waits_max=3)
        assert len(caplog.records) == 3
        assert await other.fetchval("SELECT 1") == 1  # it was not ended
    async with taken(database_url) as lock:
        await lock.replace()


async def test_a_node_whose_connection_broke_takes_the_right_again(
    database_url: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incarnations, "_LOOK_EVERY_S", 0.001)
    lock = await NodeLock.take(database_url)
    epochs: asyncio.Queue[int] = asyncio.Queue()
    keeping = asyncio.ensure_future(lock.keep(world.incarnation, epochs.put_nowait))
    await world.pool.execute("SELECT pg_terminate_backend($1)", lock._connection.get_server_pid())
    assert await epochs.get() == await world.pool.fetchval("SELECT epoch FROM deployment")
    with pytest.raises(DatabaseInUseError):
        await NodeLock.take(database_url, patience_s=0.0)
    keeping.cancel()
    await lock.release()


@contextlib.asynccontextmanager
async def kept(
    url: str, world: World, monkeypatch: pytest.MonkeyPatch, *, shared: bool = False
) -> AsyncIterator[tuple[NodeLock, asyncio.Queue[int]]]:
    """The right to serve, looked after without a pause, and the epochs that it settles."""
    monkeypatch.setattr(incarnations, "_LOOK_EVERY_S", 0.001)
    lock = await NodeLock.take(url, shared=shared)
    await lock.settle_epoch(print)
    epochs: asyncio.Queue[int] = asyncio.Queue()
    keeping = asyncio.ensure_future(lock.keep(world.incarnation, epochs.put_nowait))
    async with asyncio.timeout(30):
        yield lock, epochs
    keeping.cancel()
    await asyncio.wait({keeping})
    await lock.release()


async def test_a_node_that_is_paused_while_it_settles_the_epoch_keeps_no_other_waiting(
    database_url: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    paused = asyncio.Event()

    async def pause(*_settling: object, **_how: object) -> int:
        paused.set()
        await asyncio.Event().wait()  # for ever: it says nothing more
        return 0

    monkeypatch.setattr(incarnations, "_SILENT_S_MAX", 0.2)
    first = await NodeLock.take(database_url, shared=True)
    second = await NodeLock.take(database_url, shared=True)
    with monkeypatch.context() as of_the_first:
        of_the_first.setattr(incarnations, "settle_epoch", pause)
        settling = asyncio.ensure_future(first.settle_epoch(print))
        await paused.wait()
    async with asyncio.timeout(10):
        assert await second.settle_epoch(print) > 0
    assert await world.pool.fetchval("SELECT epoch FROM deployment") > 0
    settling.cancel()
    await second.release()


async def test_a_node_learns_of_another_history_although_its_connection_is_whole(
    database_url: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with kept(database_url, world, monkeypatch) as (_, epochs):
        before = await world.pool.fetchval("SELECT epoch FROM deployment")
        await world.pool.execute("UPDATE deployment SET timeline_id = timeline_id - 1")
        assert await epochs.get() > before


async def test_a_node_whose_readings_see_another_history_than_its_connection_takes_the_right_again(
    database_url: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with kept(database_url, world, monkeypatch) as (lock, epochs):
        lock.doubt()
        assert await epochs.get() == await world.pool.fetchval("SELECT epoch FROM deployment")


async def test_a_node_whose_connection_gives_no_answer_takes_the_right_on_a_new_one(
    database_url: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incarnations, "_ANSWER_S_MAX", 0.5)
    async with kept(database_url, world, monkeypatch, shared=True) as (lock, epochs):
        backend = lock._connection.get_server_pid()
        os.kill(backend, signal.SIGSTOP)
        try:
            assert await epochs.get()
        finally:
            os.kill(backend, signal.SIGCONT)


async def test_a_node_that_was_replaced_while_its_connection_was_broken_learns_it(
    database_url: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incarnations, "_LOOK_EVERY_S", 0.001)
    lock = await NodeLock.take(database_url)
    pid = lock._connection.get_server_pid()
    await lock.release()
    await gone(world, pid)
    async with taken(database_url) as other:
        keeping = asyncio.ensure_future(lock.keep(world.incarnation, lambda _epoch: None))
        await other.replace()
        async with asyncio.timeout(10.0):
            with pytest.raises(IncarnationEndedError):
                await keeping


def test_every_call_that_writes_timelines_holds_its_incarnation() -> None:
    texts = {path.stem: path.read_text(encoding="utf-8") for path in functions.FOLDER.glob("*.sql")}
    calls = [name for name in texts if name.startswith("change_") or name in ("flush", "flush_one", "raise_receipts")]
    holding = ("PERFORM hold_incarnation(p_incarnation", "open_change(p_incarnation, p_flush_no, ", "FROM flush(p_in")
    assert [name for name in calls if not any(held in texts[name] for held in holding)] == []
    assert "BEGIN\n    PERFORM hold_incarnation(p_incarnation, p_flush_no)" in texts["open_change"]
