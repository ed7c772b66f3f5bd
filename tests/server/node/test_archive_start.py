"""The archive of a node: found, migrated, or away."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import subprocess
import sys

import pytest

from protocol.ids import new_id
from server.config.settings import StorageSettings
from server.node.archive_start import migrate_archive, running_archive
from server.startup_error import StartupError
from storage.cql.driver import CqlServer
from storage.cql.migrate import FOLDER, examine
from storage.numbered_files import list_names
from storage.unavailable import StorageUnavailableError
from tests.engines.server_process import free_port
from tests.support.rows import posted

pytestmark = pytest.mark.anyio


def settings_of(server: CqlServer) -> StorageSettings:
    return StorageSettings(cql_hosts=server.hosts, cql_port=server.port, cql_keyspace=server.keyspace)


@pytest.fixture
def empty(cql_server: CqlServer, cql_keyspace: str) -> CqlServer:
    """An empty keyspace."""
    return dataclasses.replace(cql_server, keyspace=cql_keyspace)


@pytest.fixture
def away() -> StorageSettings:
    """A configuration whose archive does not answer."""
    return StorageSettings(cql_hosts=("127.0.0.1",), cql_port=free_port())


async def test_without_hosts_there_is_no_archive(database_url: str) -> None:
    async with running_archive(StorageSettings(), database_url) as archive:
        assert archive is None
    assert await migrate_archive(StorageSettings(), database_url, print) == []


async def test_nodes_that_start_together_migrate_the_archive_once(empty: CqlServer, database_url: str) -> None:
    shown: list[str] = []
    settings = settings_of(empty)
    applied = await asyncio.gather(*(migrate_archive(settings, database_url, shown.append) for _ in range(3)))
    assert sorted(applied) == [[], [], list_names(FOLDER)]
    assert shown == list_names(FOLDER)


async def test_a_node_brings_its_archive_to_this_version_and_uses_it(empty: CqlServer, database_url: str) -> None:
    row = posted(new_id(), 1)
    async with running_archive(settings_of(empty), database_url) as archive:
        assert archive is not None
        assert examine(empty).is_current
        await archive.write([row])
        assert await archive.read_rows(row.event.dialog, [1]) == [row]


async def test_a_node_starts_while_its_archive_is_away(
    away: StorageSettings, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        async with running_archive(away, database_url) as archive:
            assert archive is not None
            with pytest.raises(StorageUnavailableError):
                await archive.read_rows(new_id(), [1])
    assert "the archive cannot be reached" in caplog.text


async def test_migrating_an_archive_that_is_away_says_what_to_do(away: StorageSettings, database_url: str) -> None:
    with pytest.raises(StartupError, match=r"storage\.cql_hosts cannot be used .* run `tchat doctor`"):
        await migrate_archive(away, database_url, print)


def test_a_server_without_an_archive_loads_no_driver_of_it() -> None:
    code = "import sys, server.node.serve, server.node.worker; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout.split()
    assert "asyncpg" in loaded
    assert not {"cassandra", "numpy"} & set(loaded)
