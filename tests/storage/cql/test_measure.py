"""The measurement of the archive, small."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from storage.cql.driver import CqlServer
from storage.cql.migrate import migrate
from storage.embedded.cluster import EmbeddedPostgres
from tests.engines.cassandra_server import CassandraServer
from tests.storage.cql.measure import QUICK, measure

pytestmark = pytest.mark.anyio


async def test_a_node_archives_what_others_write_and_what_it_reads_is_whole(
    tmp_path: Path, postgres: EmbeddedPostgres, database_url: str, cassandra: CassandraServer, cql_keyspace: str
) -> None:
    server = CqlServer(("127.0.0.1",), cassandra.port, cql_keyspace)
    migrate(server, lambda _name: None)
    engines = {"postgres": postgres.pid, "cassandra": cassandra.pid}
    sizes = dataclasses.replace(QUICK, seconds=1.5)
    result = await measure(tmp_path, database_url, server, sizes, engines=engines)
    assert all(each > 0 for each in result["moved_per_cpu_s"].values())
    assert result["lag"]["written_per_s"] > 0
    assert result["lag"]["cpu"].keys() == {"node", "generator", "postgres", "cassandra"}
    assert result["reads_ms"].keys() == {"first_page", "thousand"}
