"""Two short rounds of the conversation through three nodes, their journal and their archive, under faults."""

import pytest

from tests.adversity.cluster import cluster
from tests.adversity.conversation import PROMISES
from tests.engines.cassandra_server import CassandraServer

pytestmark = pytest.mark.anyio

_FAULTS = (
    *("kill", "freeze", "stop before publish", "reply loss", "postgres kill", "redis restart"),
    *("clients slice", "cassandra black hole"),
)


async def test_what_was_promised_outlives_the_faults_of_nodes_networks_and_engines(
    breakable_cassandra: CassandraServer, cql_keyspace: str
) -> None:
    summary, violations = await cluster(
        lambda number: number <= 2,
        seed=4,
        faults=_FAULTS,
        archived=True,
        messages_per_round=100,
        frozen_s=(5.0, 7.0),
        cassandra=(breakable_cassandra, cql_keyspace),
    )
    assert violations.said == []
    assert {promise: summary[promise] for promise in PROMISES} == dict.fromkeys(PROMISES, 0)
    assert summary["messages"] >= 2 * 100
    assert sum(summary["faults"].values()) >= 8
    assert min(summary[of] for of in ("trimmed", "sealed", "keys_had", "stale")) > 0
