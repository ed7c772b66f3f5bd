"""The connection pool, the codec of ids, and what a failure of PostgreSQL means to the caller.

SQL in Python is an f-string: `{PrincipalStatus.DELETED}`, a member of an IntEnum, is its number there, as
`${PrincipalStatus.DELETED}` is in a file of `functions/`. Values of a call are always parameters: `$1`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import asyncpg

from storage.postgres.functions import INCARNATION_ENDED, TARGET_ARCHIVED
from storage.unavailable import (
    IncarnationEndedError,
    StorageTimeoutError,
    StorageUnavailableError,
    WriteRefusedError,
)

Pool: TypeAlias = "asyncpg.Pool[Any]"

CONNECT_TIMEOUT_S = 5.0

_TEMPORARY = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # raised by the driver when a connection breaks in the middle of an exchange
    asyncpg.InsufficientResourcesError,  # class 53: disk full, too many connections, out of memory
    asyncpg.OperatorInterventionError,  # class 57: shutdown, cancel, cannot connect now
    asyncpg.TransactionRollbackError,  # class 40: deadlock, serialization
    asyncpg.PostgresIOError,  # class 58
    asyncpg.ReadOnlySQLTransactionError,  # a demoted primary
    OSError,
)


SESSION_SETTINGS = {
    # One generic plan per statement, kept. By default PostgreSQL plans a call with array parameters each time: a
    # flush of one row then costs 0.9-1.0 ms of its CPU, with the generic plan 0.31-0.46 ms.
    "plan_cache_mode": "force_generic_plan",
    # Such a plan is made while tables may be small or never analysed, and kept when they are large: it must be nested
    # loops over keys, whatever the tables look like. (SET clauses of functions would do it, at a cost in each call.)
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_bitmapscan": "off",
    "jit": "off",
    # A writing transaction of ours that is left open would hold every client's position.
    "idle_in_transaction_session_timeout": "60s",
}
"""What every connection starts with. A pooler between must pass it on: PgBouncer refuses a parameter that is neither in
its `track_extra_parameters` nor in `ignore_startup_parameters`; an ignored one must then be set for the role (with
`ALTER ROLE`). It must keep prepared statements, too, which asyncpg uses for all: `max_prepared_statements` above 0."""


class TargetArchivedError(WriteRefusedError):
    """A row of a flush is about an event that is in the archive only: nothing was written."""


@asynccontextmanager
async def translate_errors() -> AsyncIterator[None]:
    """Turn every failure that a later try may cure into `StorageUnavailableError`."""
    try:
        yield
    except asyncpg.UnknownPostgresError as error:
        if error.sqlstate == INCARNATION_ENDED:
            raise IncarnationEndedError from error
        if error.sqlstate == TARGET_ARCHIVED:
            raise TargetArchivedError from error
        raise
    except (TimeoutError, asyncpg.QueryCanceledError) as error:
        raise StorageTimeoutError(f"{type(error).__name__}: {error}") from error
    except _TEMPORARY as error:
        raise StorageUnavailableError(f"{type(error).__name__}: {error}") from error


async def open_pool(
    url: str, *, size: int, statement_timeout_s: float, settings: Mapping[str, str] = SESSION_SETTINGS
) -> Pool:
    """A pool on the database at `url`; `uuid` columns are 16 bytes in both directions.

    Raises `StorageUnavailableError` when nothing answers.
    """
    async with translate_errors():
        return await asyncpg.create_pool(
            url,
            min_size=1,
            max_size=size,
            init=prepare,
            reset=_leave_as_it_is,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=statement_timeout_s,
            server_settings=dict(settings),
        )


async def prepare(connection: asyncpg.Connection[Any]) -> None:
    """Make a new connection speak of ids as 16 bytes: a uuid on the wire is that, so plain bytes read and write it."""
    await connection.set_builtin_type_codec("uuid", schema="pg_catalog", codec_name="bytea", format="binary")


async def _leave_as_it_is(_connection: asyncpg.Connection[Any]) -> None:
    """No code changes the settings of a session, so a connection needs no reset query when it is given back."""
