"""Two short rounds of the conversation through three nodes under faults."""

import pytest

from tests.adversity.cluster import cluster
from tests.adversity.conversation import PROMISES

pytestmark = pytest.mark.anyio


async def test_what_was_promised_outlives_the_faults_of_nodes_postgres_and_redis() -> None:
    faults = ["kill", "freeze", "postgres kill", "redis restart", "reply loss"]
    summary, violations = await cluster(
        lambda number: number <= 2, seed=4, faults=faults, archived=False, messages_per_round=150
    )
    assert violations.said == []
    assert {promise: summary[promise] for promise in PROMISES} == dict.fromkeys(PROMISES, 0)
    assert summary["messages"] >= 2 * 150
    assert sum(summary["faults"].values()) >= 6
