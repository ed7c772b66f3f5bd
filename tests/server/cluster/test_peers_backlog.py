"""A long backlog of other nodes, and a horizon that somebody holds: delivery goes on, bounded, and positions wait."""

from __future__ import annotations

import pytest

from server.cluster import peers as module
from storage import nodes as contract
from tests.support.hearing_node import DIALOG, OTHER, HearingNode, X, alive

pytestmark = pytest.mark.anyio


async def test_a_reading_looks_at_a_bounded_number_of_rows_and_the_position_moves_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for where in (module, contract):
        monkeypatch.setattr(where, "PAGE_ROWS", 2)
    monkeypatch.setattr(module, "_ROWS_PER_READING", 4)
    node = HearingNode(alive(X))
    await node.look(100)
    for seq in range(1, 10):
        node.nodes.write(X, DIALOG, seq, 100 + seq // 3)
    assert await node.look(110)
    assert (len(node.delivered), node.horizon.reached) == (4, 101)
    while await node.look():
        pass
    assert ([seq for _, seq in node.delivered], node.horizon.reached) == (list(range(1, 10)), 110)


@pytest.mark.parametrize("bound", ["_BYTES_PER_READING", "_READING_S_MAX"])
async def test_a_reading_takes_bounded_bytes_and_time_so_that_leases_are_renewed(
    monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    for where in (module, contract):
        monkeypatch.setattr(where, "PAGE_ROWS", 2)
    monkeypatch.setattr(module, bound, 0)
    node = HearingNode(alive(X))
    await node.look(100)
    for seq in range(1, 8):
        node.nodes.write(X, DIALOG, seq, 100 + seq)
    assert await node.look(110)
    assert (len(node.delivered), node.horizon.reached) == (2, 102)


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    for where in (module, contract):
        monkeypatch.setattr(where, "PAGE_ROWS", 2)
    monkeypatch.setattr(module, "_ROWS_PER_READING", 4)


async def look_until_read(node: HearingNode, horizon: int, next_xid: int) -> None:
    for _ in range(20):
        if not await node.look(horizon, next_xid):
            return
    raise AssertionError("there is always more")


async def pass_what_is_open(node: HearingNode, horizon: int) -> None:
    """Let what holds the horizon be open for long."""
    for _ in range(6):
        await look_until_read(node, horizon, node.nodes.next_xid)


@pytest.mark.usefixtures("small_pages")
async def test_what_others_write_is_delivered_for_as_long_as_a_transaction_holds_the_horizon() -> None:
    node = HearingNode(alive(X))
    await node.look(100, next_xid=101)
    await pass_what_is_open(node, 100)
    for seq in range(1, 31):
        node.nodes.write(X, DIALOG, seq, 100 + seq)
        if seq % 3 == 0:
            await look_until_read(node, 100, 101 + seq)
            assert [number for _, number in node.delivered] == list(range(1, seq + 1))
            assert node.horizon.reached == 100
    assert all(since > 100 for _, since, _ in node.asked()[-5:])  # what was read is not read each time
    await look_until_read(node, 140, 140)
    assert (len(node.delivered), node.horizon.reached) == (30, 140)


@pytest.mark.usefixtures("small_pages")
async def test_what_a_long_transaction_wrote_is_read_before_a_position_passes_it() -> None:
    node = HearingNode(alive(X))
    await node.look(100, next_xid=101)
    await pass_what_is_open(node, 100)
    for seq in range(1, 10):
        node.nodes.write(X, DIALOG, seq, 100 + seq)
    await look_until_read(node, 100, 120)
    node.nodes.write(X, OTHER, 1, 100)  # it was open for long, and has written, too
    while await node.look(125, 125):
        assert (OTHER, 1) in node.delivered or node.horizon.reached == 100
    assert node.delivered[9:] == [(OTHER, 1)]
    assert node.horizon.reached == 125


async def test_what_began_lately_and_commits_behind_what_was_read_is_delivered_though_the_horizon_is_held() -> None:
    node = HearingNode(alive(X))
    await node.look(100, next_xid=101)
    await pass_what_is_open(node, 100)
    node.nodes.open = [103]
    node.nodes.write(X, DIALOG, 1, 104)
    await node.look(100, next_xid=105)
    node.nodes.open = []
    node.nodes.write(X, OTHER, 1, 103)
    await node.look(100, next_xid=106)
    assert node.delivered == [(DIALOG, 1), (OTHER, 1)]


async def test_a_node_that_comes_into_doubt_is_read_from_where_it_was_heard() -> None:
    node = HearingNode(alive(X))
    await node.look(100)
    k = await node.become_whole(X, 101)
    for horizon in range(102, 110):
        node.peers.tick(X, k - 1, horizon)
        await node.look(horizon)
    node.peers.doubt(X)
    await node.look(110)
    assert node.asked() == [((X,), 109, 110)]


async def test_many_rows_under_one_stamp_are_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for where in (module, contract):
        monkeypatch.setattr(where, "PAGE_ROWS", 2)
    monkeypatch.setattr(module, "_ROWS_PER_READING", 2)
    node = HearingNode(alive(X))
    await node.look(100)
    for seq in range(1, 8):
        node.nodes.write(X, DIALOG, seq, 100)
    assert not await node.look(101)
    assert len(node.delivered) == 7


async def test_a_backlog_that_is_not_read_yet_is_told_as_an_age(monkeypatch: pytest.MonkeyPatch) -> None:
    for where in (module, contract):
        monkeypatch.setattr(where, "PAGE_ROWS", 2)
    monkeypatch.setattr(module, "_ROWS_PER_READING", 4)
    node = HearingNode(alive(X))
    await node.look(100)
    for seq in range(1, 10):
        node.nodes.write(X, DIALOG, seq, 100 + seq)
    await node.look(120)
    await node.look(120)
    assert node.peers.behind_s == 2.0
    while await node.look(120):
        pass
    assert node.peers.behind_s == 0.0


async def test_a_node_whose_horizon_stands_because_ours_does_is_not_silent() -> None:
    node = HearingNode(alive(X))
    await node.look(100)
    k = await node.become_whole(X, 101)
    for stamp in range(102, 110):  # somebody has a transaction open since 101
        node.peers.tick(X, k - 1, 101)
        await node.look(101, next_xid=stamp)
    assert (node.peers.in_doubt, node.asked()) == (0, [])
