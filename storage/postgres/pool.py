"""The connection pool, the codec of ids, and what a failure of PostgreSQL means to the caller."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

CONNECT_TIMEOUT_S = 5.0

_TEMPORARY = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the driver's own confusion over a connection that broke under it
    asyncpg.InsufficientResourcesError,  # class 53: disk full, too many connections, out of memory
    asyncpg.OperatorInterventionError,  # class 57: shutdown, cancel, cannot connect now
    asyncpg.TransactionRollbackError,  # class 40: deadlock, serialization
    asyncpg.PostgresIOError,  # class 58
    asyncpg.ReadOnlySQLTransactionError,  # a demoted primary
    OSError,
    TimeoutError,
)


class StorageUnavailableError(Exception):
    """The database could not do it now. Whether a write happened is not known: call again."""


@asynccontextmanager
async def translate_errors() -> AsyncIterator[None]:
    """Turn every failure that a later try may cure into `StorageUnavailableError`."""
    try:
        yield
    except _TEMPORARY as error:
        raise StorageUnavailableError(f"{type(error).__name__}: {error}") from error


async def open_pool(url: str, *, size: int, statement_timeout_s: float = 30.0) -> asyncpg.Pool[Any]:
    """A pool on the database at `url`; `uuid` columns are 16 bytes in both directions.

    Raises `StorageUnavailableError` when nothing answers.
    """
    async with translate_errors():
        return await asyncpg.create_pool(
            url,
            min_size=1,
            max_size=size,
            init=_prepare,
            reset=_leave_as_it_is,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=statement_timeout_s,
        )


async def _prepare(connection: asyncpg.Connection[Any]) -> None:
    # A uuid on the wire is its 16 bytes, so the codec of plain bytes reads and writes it, in C.
    await connection.set_builtin_type_codec("uuid", schema="pg_catalog", codec_name="bytea", format="binary")


async def _leave_as_it_is(_connection: asyncpg.Connection[Any]) -> None:
    """Nothing here sets anything for a session, so giving a connection back needs no query of its own."""
