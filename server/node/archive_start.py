"""The archive of this node, if the configuration names one: its keyspace brought to this version, and an engine.

The driver is imported only then: it takes 20 MiB, in each worker of a server.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from server.config.settings import StorageSettings
from server.startup_error import StartupError
from storage.postgres.migrate import migrating_alone
from storage.unavailable import StorageUnavailableError

if TYPE_CHECKING:
    from storage.cql.archive import CqlArchive
    from storage.cql.driver import CqlServer

_log = logging.getLogger(__name__)


def configured_archive(storage: StorageSettings) -> CqlServer | None:
    """The CQL server of `storage.cql_*`; None: the journal is the whole timeline."""
    if not storage.cql_hosts:
        return None
    from storage.cql.driver import CqlServer

    return CqlServer(
        storage.cql_hosts,
        storage.cql_port,
        storage.cql_keyspace,
        storage.cql_user,
        storage.cql_password.reveal(),
        storage.cql_local_dc,
        storage.cql_tls_ca,
    )


@contextlib.asynccontextmanager
async def running_archive(storage: StorageSettings, postgres_url: str) -> AsyncIterator[CqlArchive | None]:
    """The archive, migrated. One that is away keeps no node from starting: only old history waits for it.

    Raises MigrationError if a newer version migrated it.
    """
    server = configured_archive(storage)
    if server is None:
        yield None
        return
    try:
        await _migrate_alone(server, postgres_url, lambda name: _log.info("migrated the archive: %s", name))
    except StorageUnavailableError as error:
        _log.warning("the archive cannot be reached, and the journal keeps what it lacks: %s", error)
    from storage.cql.archive import CqlArchive

    archive = CqlArchive(server, read_timeout_s=storage.read_timeout_s, write_timeout_s=storage.statement_timeout_s)
    try:
        yield archive
    finally:
        await archive.close()


async def migrate_archive(storage: StorageSettings, postgres_url: str, progress: Callable[[str], None]) -> list[str]:
    """Bring the keyspace, if one is configured, to this version; return the names of the steps taken.

    Raises StartupError if it cannot be reached, and MigrationError if a newer version migrated it.
    """
    server = configured_archive(storage)
    if server is None:
        return []
    try:
        return await _migrate_alone(server, postgres_url, progress)
    except StorageUnavailableError as error:
        raise StartupError(f"The archive at storage.cql_hosts cannot be used ({error}): run `tchat doctor`.") from error


async def _migrate_alone(server: CqlServer, postgres_url: str, progress: Callable[[str], None]) -> list[str]:
    from storage.cql.migrate import migrate

    async with migrating_alone(postgres_url):
        return await asyncio.to_thread(migrate, server, progress)
