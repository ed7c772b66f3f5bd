"""A node that stands still is ended by those who watched it, and by nobody else."""

from __future__ import annotations

import asyncio

import pytest

from server.cluster.leases import Leases
from storage.rows import ClusterReading, IncarnationRow
from tests.support.clock import ManualClock
from tests.support.fake_nodes import US, FakeNodes

pytestmark = pytest.mark.anyio

X = 2


class Watch:
    """A node that watches X, whose lease lasts ten seconds."""

    def __init__(self, lease_s: float = 10.0) -> None:
        self.clock = ManualClock()
        self.nodes = FakeNodes()
        self.leases = Leases(self.nodes, self.clock, asyncio.ensure_future, incarnation=US, lease_s=lease_s)

    async def see(self, lease: int, *, after_s: float = 1.0, ended: bool = False) -> list[tuple[object, ...]]:
        """Read the cluster; what was done about X."""
        self.clock.advance(after_s)
        us = IncarnationRow(US, "us", 0, ended=False)
        self.leases.watch(ClusterReading(1, 1, 1, 1, (us, IncarnationRow(X, "node", lease, ended))))
        await asyncio.sleep(0)
        calls, self.nodes.calls = self.nodes.calls, []
        return calls


async def test_a_lease_that_stands_still_for_its_time_is_ended_and_fenced() -> None:
    watch = Watch()
    assert [await watch.see(7) for _ in range(10)] == [[]] * 10
    assert await watch.see(7) == [("end", X, 7), ("fence", X)]
    assert watch.leases.ended == 1


async def test_a_lease_that_grows_is_left_alone() -> None:
    watch = Watch()
    for lease in range(5):
        assert [await watch.see(lease) for _ in range(10)] == [[]] * 10


async def test_time_in_which_the_watcher_was_paused_does_not_count() -> None:
    watch = Watch()
    await watch.see(7)
    assert await watch.see(7, after_s=40.0) == []
    assert [await watch.see(7) for _ in range(7)] == [[]] * 7


async def test_a_short_lease_needs_three_readings_nevertheless() -> None:
    watch = Watch(lease_s=0.1)
    assert [await watch.see(7) for _ in range(3)] == [[], [], [("end", X, 7), ("fence", X)]]


async def test_a_node_that_has_ended_is_fenced_at_once_and_until_nothing_of_it_runs() -> None:
    watch = Watch()
    watch.nodes.fences = False
    assert await watch.see(7, ended=True) == [("fence", X)]
    assert await watch.see(7, ended=True) == [("fence", X)]


async def test_a_failure_is_logged_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    watch = Watch()
    watch.nodes.away = 1
    assert await watch.see(7, ended=True) == [("fence", X)]
    assert "cannot be ended now" in caplog.text
    assert await watch.see(7, ended=True) == [("fence", X)]
