"""Which failures of the database a later try may cure."""

import asyncpg
import pytest

from storage.postgres.pool import translate_errors
from storage.unavailable import StorageUnavailableError

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.ConnectionDoesNotExistError("the server was killed"),
        asyncpg.InternalClientError("cannot switch to state 15; another operation (2) is in progress"),
        asyncpg.DiskFullError("could not extend file"),
        asyncpg.CannotConnectNowError("the database system is starting up"),
        asyncpg.DeadlockDetectedError("deadlock detected"),
        ConnectionRefusedError(111, "Connection refused"),
        TimeoutError(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_it_is_unavailable(error: Exception) -> None:
    with pytest.raises(StorageUnavailableError, match=type(error).__name__):
        async with translate_errors():
            raise error


async def test_a_fault_of_ours_is_not() -> None:
    with pytest.raises(asyncpg.UniqueViolationError):
        async with translate_errors():
            raise asyncpg.UniqueViolationError("duplicate key")
