"""The connections of the lanes: what happens to a write that takes too long, and what its error says of its fate."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from protocol.dialog_types import DialogType
from storage.postgres.pool import open_pool
from storage.postgres.write_connections import WriteConnections
from storage.unavailable import LockTimeoutError, NothingWrittenError, StorageUnavailableError, WriteRefusedError
from tests.support.world import World

pytestmark = pytest.mark.anyio

_SLOW_WRITE = "INSERT INTO tenants SELECT 2, 'slow' FROM pg_sleep(0.4)"
_STORED = "SELECT EXISTS (SELECT FROM tenants WHERE name = 'slow')"


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool[Any]]:
    opened = await open_pool(database_url, size=2, statement_timeout_s=30.0)
    yield opened
    opened.terminate()


@contextlib.contextmanager
def _connections(url: str, timeout_s: float) -> Any:
    made = WriteConnections(url, size=2, statement_timeout_s=timeout_s)
    yield made
    made.terminate()


async def _until_true(pool: asyncpg.Pool[Any], query: str, *arguments: object) -> None:
    async with asyncio.timeout(20):
        while not await pool.fetchval(query, *arguments):
            pass


async def test_a_write_without_an_answer_loses_its_socket_and_is_not_cancelled(
    database_url: str, pool: asyncpg.Pool[Any]
) -> None:
    with _connections(database_url, 0.1) as writes:
        with pytest.raises(StorageUnavailableError, match="no answer") as raised:
            await writes.fetch(_SLOW_WRITE)
        assert not isinstance(raised.value, NothingWrittenError)
        await _until_true(pool, _STORED)
        assert await writes.fetch("SELECT 1")  # over a new connection


async def test_who_waits_for_a_write_may_be_cancelled_and_the_write_is_not(
    database_url: str, pool: asyncpg.Pool[Any]
) -> None:
    with _connections(database_url, 10.0) as writes:
        await writes.fetch("SELECT 1")
        call = asyncio.ensure_future(writes.fetch(_SLOW_WRITE))
        await _until_true(pool, "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE query = $1)", _SLOW_WRITE)
        call.cancel()
        await asyncio.wait({call})
        await _until_true(pool, _STORED)


async def test_a_wait_for_a_lock_ends_and_nothing_was_written(database_url: str, pool: asyncpg.Pool[Any]) -> None:
    with _connections(database_url, 0.5) as writes:
        async with pool.acquire() as holder, holder.transaction():
            await holder.execute("LOCK TABLE tenants")
            with pytest.raises(LockTimeoutError):
                await writes.fetch("INSERT INTO tenants VALUES (2, 'slow')")
        assert await writes.fetch("SELECT 1")


@pytest.mark.parametrize(
    ("code", "known"),
    [
        ("22012", WriteRefusedError),
        ("23505", WriteRefusedError),
        ("42P01", WriteRefusedError),
        ("P0001", WriteRefusedError),
        ("40001", NothingWrittenError),
        ("53100", NothingWrittenError),
        ("25006", NothingWrittenError),
        ("55000", StorageUnavailableError),
        ("57014", StorageUnavailableError),
        ("XX000", StorageUnavailableError),
    ],
)
async def test_an_error_says_what_is_known_of_the_write(database_url: str, code: str, known: type[Exception]) -> None:
    with _connections(database_url, 10.0) as writes:
        await writes.fetch(
            "CREATE FUNCTION fail(code text) RETURNS int LANGUAGE plpgsql AS"
            " 'BEGIN RAISE EXCEPTION USING ERRCODE = code, MESSAGE = ''no''; END'"
        )
        with pytest.raises(known) as raised:
            await writes.fetch("SELECT fail($1)", code)
        assert type(raised.value) is known


async def test_a_value_that_cannot_be_sent_was_not_written(database_url: str) -> None:
    with _connections(database_url, 10.0) as writes, pytest.raises(WriteRefusedError):
        await writes.fetch("SELECT $1::bigint", 2**70)


async def test_a_database_that_cannot_be_reached_was_not_written_to(tmp_path: Any) -> None:
    with _connections(f"postgresql:///nothing?host={tmp_path}", 10.0) as writes, pytest.raises(NothingWrittenError):
        await writes.fetch("SELECT 1")


async def test_a_lost_connection_leaves_the_fate_unknown_and_is_replaced(
    database_url: str, pool: asyncpg.Pool[Any]
) -> None:
    with _connections(database_url, 10.0) as writes:
        ((pid,),) = await writes.fetch("SELECT pg_backend_pid()")
        call = asyncio.ensure_future(writes.fetch(_SLOW_WRITE))
        await _until_true(pool, "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE query = $1)", _SLOW_WRITE)
        await pool.execute("SELECT pg_terminate_backend($1)", pid)
        with pytest.raises(StorageUnavailableError) as raised:
            await call
        assert not isinstance(raised.value, NothingWrittenError)
        assert await writes.fetch("SELECT 1")


async def test_reads_leave_the_lanes_their_connections(database_url: str) -> None:
    world = await World.open(database_url)
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(world.pool.get_max_size()):
            await stack.enter_async_context(world.pool.acquire())
        assert (await world.say(dialog, ann)).seq == 2
    await world.close()
