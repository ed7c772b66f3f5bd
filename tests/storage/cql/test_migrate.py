"""Migrations of a keyspace against real Cassandra."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest
from cassandra.cluster import Session

from storage.cql.driver import CqlServer
from storage.cql.migrate import FOLDER, KeyspaceState, examine, migrate
from storage.numbered_files import MigrationError, list_names
from storage.postgres.migrate import migrating_alone
from storage.unavailable import StorageUnavailableError
from tests.engines.server_process import free_port

ALL = list_names(FOLDER)


def ignore(_name: str) -> None:
    """Show nothing."""


@pytest.fixture
def server(cql_server: CqlServer, cql_keyspace: str) -> CqlServer:
    """An empty keyspace."""
    return dataclasses.replace(cql_server, keyspace=cql_keyspace)


def test_an_empty_keyspace_gets_every_file_in_order_and_then_nothing_more(server: CqlServer) -> None:
    shown: list[str] = []
    assert examine(server) == KeyspaceState(is_current=False, copies=1)
    assert migrate(server, shown.append) == shown == ALL
    assert examine(server) == KeyspaceState(is_current=True, copies=1)
    assert migrate(server, ignore) == []


def test_a_migration_that_was_cut_off_begins_anew(server: CqlServer, cql_session: Session) -> None:
    migrate(server, ignore)
    cql_session.execute(f"TRUNCATE {server.keyspace}.migrations")
    cql_session.execute(f"DROP TABLE {server.keyspace}.about")
    assert migrate(server, ignore) == ALL
    assert list(cql_session.execute(f"SELECT seq FROM {server.keyspace}.about")) == []


def test_a_keyspace_that_is_not_there_is_made_with_as_many_copies_as_there_are_hosts(
    cql_server: CqlServer, cql_session: Session
) -> None:
    server = dataclasses.replace(cql_server, keyspace="made_by_migrate")
    assert examine(server) == KeyspaceState(is_current=False, copies=0)
    assert migrate(server, ignore) == ALL
    cql_session.cluster.refresh_keyspace_metadata(server.keyspace)
    strategy = cql_session.cluster.metadata.keyspaces[server.keyspace].replication_strategy
    assert strategy.dc_replication_factors == {"datacenter1": 1}


def test_a_file_that_comes_later_than_one_with_a_higher_number_is_applied(
    server: CqlServer, cql_session: Session
) -> None:
    migrate(server, ignore)
    cql_session.execute(f"DELETE FROM {server.keyspace}.migrations WHERE number = 1")
    assert not examine(server).is_current
    assert migrate(server, ignore) == ALL[:1]


def test_a_newer_keyspace_is_refused_by_name(server: CqlServer, cql_session: Session) -> None:
    migrate(server, ignore)
    cql_session.execute(f"INSERT INTO {server.keyspace}.migrations (number, name) VALUES (9999, 'later')")
    for look in (lambda: examine(server), lambda: migrate(server, ignore)):
        with pytest.raises(MigrationError, match="9999 by a newer tchat"):
            look()


def test_a_server_that_is_away_is_unavailable() -> None:
    with pytest.raises(StorageUnavailableError, match="NoHostAvailable"):
        examine(CqlServer(("127.0.0.1",), free_port(), "tchat"))


@pytest.mark.anyio
async def test_one_node_at_a_time_migrates(database_url: str) -> None:
    inside = 0

    async def migrate_slowly() -> None:
        nonlocal inside
        async with migrating_alone(database_url):
            inside += 1
            assert inside == 1
            await asyncio.to_thread(ignore, "a step that takes a while")
            inside -= 1

    await asyncio.gather(*(migrate_slowly() for _ in range(4)))
