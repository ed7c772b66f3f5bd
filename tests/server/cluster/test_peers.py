"""What other nodes write is delivered here and holds the positions here, whether they tell us or not."""

from __future__ import annotations

import pytest

from server.cluster import peers as module
from storage.rows import ClusterReading, IncarnationRow, WrittenRow
from storage.unavailable import IncarnationEndedError, OtherHistoryError, StorageUnavailableError
from tests.support.fake_nodes import event
from tests.support.hearing_node import DIALOG, OTHER, HearingNode, X, Y, alive, fenced

pytestmark = pytest.mark.anyio


async def test_what_others_wrote_before_the_horizon_is_delivered_and_then_the_position_moves() -> None:
    node = HearingNode(alive(X), alive(Y))
    await node.look(100)
    assert node.horizon.reached == 100
    node.nodes.write(X, DIALOG, 1, 100)
    node.nodes.write(Y, DIALOG, 2, 104)
    node.nodes.write(X, OTHER, 1, 106)
    await node.look(105)
    assert node.delivered == [(DIALOG, 1), (DIALOG, 2)]
    assert node.horizon.reached == 105
    await node.look(107)
    assert node.delivered[2:] == [(OTHER, 1)]
    assert node.asked() == [((X, Y), 100, 105), ((X, Y), 105, 107)]
    assert node.peers.rows_read == 3


async def test_what_is_committed_beyond_the_horizon_is_delivered_and_the_horizon_is_the_position() -> None:
    node = HearingNode(alive(X))
    await node.look(100)
    node.nodes.write(X, DIALOG, 1, 104)
    await node.look(102, next_xid=106)  # a transaction is open since 102
    assert (node.delivered, node.horizon.reached) == ([(DIALOG, 1)], 102)
    node.nodes.write(X, DIALOG, 2, 105)
    await node.look(108)
    assert (node.delivered, node.horizon.reached) == ([(DIALOG, 1), (DIALOG, 2)], 108)
    assert node.asked() == [((X,), 100, 106), ((X,), 102, 108)]


async def test_no_position_passes_what_was_read_and_is_not_delivered() -> None:
    node = HearingNode(alive(X))
    await node.look(100)
    node.gate.clear()
    node.nodes.write(X, DIALOG, 1, 100)
    await node.look(105)
    assert node.horizon.reached == 100
    node.gate.set()
    await node.peers.wait_handed_out()
    assert node.horizon.reached == 105


async def test_what_others_write_is_delivered_while_a_write_of_this_node_is_stuck() -> None:
    node = HearingNode(alive(X))
    await node.look(100)
    node.gate.clear()
    for seq in (1, 2, 3):
        node.nodes.write(X, DIALOG, seq, 100 + seq)
        await node.look(101 + seq)
        await node.order.wait_settled()
    assert node.delivered == [(DIALOG, 1), (DIALOG, 2), (DIALOG, 3)]
    assert node.horizon.reached == 100


async def test_a_node_that_begins_between_two_readings_is_read_from_the_first_of_them() -> None:
    node = HearingNode()
    await node.look(100)
    node.nodes.write(X, DIALOG, 1, 100)
    node.nodes.others = [alive(X)]
    await node.look(105)
    assert node.delivered == [(DIALOG, 1)]


async def test_a_node_that_came_and_went_between_two_readings_is_read() -> None:
    node = HearingNode()
    await node.look(100)
    node.nodes.write(X, DIALOG, 1, 101)
    node.nodes.others = [fenced(X, 103)]
    await node.look(102)
    assert node.delivered == [(DIALOG, 1)]


async def test_the_last_rows_of_a_fenced_node_are_read_before_it_is_forgotten() -> None:
    node = HearingNode(alive(X))
    await node.look(100)
    node.nodes.write(X, DIALOG, 1, 103)  # an older transaction is open, so the horizon stands still
    node.nodes.others = [fenced(X, 104)]
    await node.look(102)
    assert node.delivered == []
    assert (node.peers.living, node.peers.in_doubt) == ([], 1)
    await node.look(106)
    assert node.delivered == [(DIALOG, 1)]
    await node.look(107)
    assert node.peers.in_doubt == 0


async def test_the_node_that_holds_positions_is_named_and_its_age_is_told() -> None:
    node = HearingNode(alive(X), IncarnationRow(Y, "far", 1, ended=False))
    await node.look(100)
    await node.become_whole(Y, 101)
    assert (node.peers.slowest, node.peers.behind_s) == ("", 0.0)
    await node.look(102)
    assert node.peers.slowest == f"node far (incarnation {Y})"
    assert (node.peers.behind_s, node.horizon.reached) == (1.0, 101)
    node.nodes.away = 99
    for _ in range(5):
        with pytest.raises(StorageUnavailableError):
            await node.look(104)
    assert (node.peers.behind_s, node.horizon.age_s) == (6.0, 6.0)
    node.nodes.away = 0
    await node.look(104)
    assert (node.peers.slowest, node.peers.behind_s, node.horizon.reached) == ("", 0.0, 104)


async def test_who_has_ended_is_known_when_it_is_forgotten_and_who_is_new_has_not() -> None:
    node = HearingNode(alive(X))
    assert not node.peers.has_ended(X)
    await node.look(100)
    assert not node.peers.has_ended(X)
    node.nodes.others = [fenced(X, 101)]
    for _ in range(3):
        await node.look(110)
        assert node.peers.has_ended(X)
    assert not node.peers.has_ended(Y)  # it begins, and the next reading names it


async def test_of_a_node_that_tells_what_it_writes_nothing_is_read_and_it_holds_the_position() -> None:
    node = HearingNode(alive(X))
    await node.look(100)
    await node.become_whole(X, 102)
    assert node.peers.in_doubt == 0
    node.nodes.write(X, DIALOG, 1, 103)
    node.peers.hear(X, 1, [(event(DIALOG, 1), 1)])
    await node.look(110)
    assert (node.delivered, node.asked()) == ([(DIALOG, 1)], [])
    assert node.horizon.reached == 102
    node.peers.tick(X, 1, 108)
    await node.look(111)
    assert node.horizon.reached == 108


async def test_a_missing_number_puts_a_node_into_doubt_and_it_is_read_from_where_it_was_heard() -> None:
    node = HearingNode(alive(X), alive(Y))
    await node.look(100)
    await node.become_whole(X, 101)
    k = await node.become_whole(Y, 102)
    node.peers.tick(X, k - 1, 102)
    node.nodes.write(Y, DIALOG, 1, 103)  # told as number k, and lost
    node.nodes.write(Y, DIALOG, 2, 104)
    node.peers.hear(Y, k + 1, [(event(DIALOG, 2), 1)])
    await node.look(106)
    assert node.delivered == [(DIALOG, 1), (DIALOG, 2)]
    assert node.asked() == [((Y,), 102, 106)]
    assert (node.peers.in_doubt, node.peers.doubts) == (0, 1)  # all of it had been told, or read, by then


@pytest.mark.parametrize("late", [False, True])
async def test_a_lost_message_is_noticed_by_the_next_tick(late: bool) -> None:
    node = HearingNode(alive(X))
    await node.look(100)
    k = await node.become_whole(X, 101)
    node.peers.tick(X, k + 1 if late else k, 105)
    assert node.peers.in_doubt == 1


async def test_a_silent_node_is_in_doubt() -> None:
    node = HearingNode(alive(X))
    await node.look(100)
    k = await node.become_whole(X, 101)
    await node.look(102)
    assert node.peers.in_doubt == 0
    node.peers.tick(X, k - 1, 102)
    await node.look(103)
    node.peers.tick(X, k - 1, 102)  # it still talks, but its horizon stands
    await node.look(104)
    assert (node.peers.in_doubt, node.asked()) == (1, [((X,), 102, 104)])


async def test_a_node_is_whole_again_when_all_that_it_had_begun_has_been_read() -> None:
    node = HearingNode(alive(X))
    await node.look(100)
    node.peers.tick(X, 7, 100)
    await node.look(105, next_xid=109)  # what it told up to number 7 may have stamps up to 108
    assert node.peers.in_doubt == 1
    node.nodes.write(X, DIALOG, 1, 107)
    await node.look(108)
    assert (node.delivered, node.peers.in_doubt) == ([(DIALOG, 1)], 1)
    node.peers.doubt(X)
    node.peers.tick(X, 9, 107)
    await node.look(109, next_xid=110)
    assert node.peers.in_doubt == 1  # its numbers had another gap since
    await node.look(110)
    assert node.peers.in_doubt == 0


async def test_a_gap_while_the_cluster_is_read_makes_that_reading_prove_nothing() -> None:
    node = HearingNode(alive(X))
    await node.look(100)
    node.peers.tick(X, 1, 100)
    read = node.nodes.read_cluster

    async def reading(*, incarnation: int, since: int, recent_since: int = 0) -> ClusterReading:
        found = await read(incarnation=incarnation, since=since, recent_since=recent_since)
        node.peers.hear(X, 5, [])
        return found

    node.nodes.read_cluster = reading  # type: ignore[method-assign]
    await node.look(105)
    node.nodes.read_cluster = read  # type: ignore[method-assign]
    await node.look(106, next_xid=108)
    assert node.peers.in_doubt == 1


async def test_a_node_that_has_ended_is_in_doubt_whatever_it_tells() -> None:
    node = HearingNode(alive(X))
    await node.look(100)
    k = await node.become_whole(X, 101)
    node.nodes.others = [IncarnationRow(X, "node", 1, ended=True)]
    node.nodes.write(X, DIALOG, 1, 104)
    for horizon in (103, 104, 105):
        node.peers.tick(X, k - 1, 103)
        await node.look(horizon)
    assert (node.delivered, node.peers.in_doubt) == ([(DIALOG, 1)], 1)


async def test_a_reading_that_failed_is_repeated_and_nothing_is_delivered_twice() -> None:
    node = HearingNode(alive(X))
    await node.look(100)
    node.nodes.write(X, DIALOG, 1, 101)
    node.nodes.away = 2
    for _ in range(2):
        with pytest.raises(StorageUnavailableError):
            await node.look(105)
        assert node.horizon.reached == 100
    await node.look(105)
    assert (node.delivered, node.horizon.reached) == ([(DIALOG, 1)], 105)


async def test_a_horizon_of_another_history_is_told_to_nobody() -> None:
    node = HearingNode(alive(X))
    await node.look(100)
    assert node.peers.settled == 100
    node.gate.clear()  # something still waits to be delivered here
    await node.look(101)
    node.nodes.epoch = 2
    await node.look(7)
    assert node.peers.settled == 0
    node.gate.set()


async def test_a_new_epoch_is_seen_by_the_next_reading_and_begins_with_its_horizon() -> None:
    node = HearingNode(alive(X))
    await node.look(100)
    node.nodes.epoch = 2
    node.nodes.write(X, DIALOG, 1, 3)
    await node.look(7)
    assert (node.epochs, node.delivered, node.peers.floor, node.horizon.reached) == ([2], [], 7, 7)
    node.nodes.write(X, DIALOG, 2, 8)
    await node.look(9)
    assert node.delivered == [(DIALOG, 2)]


async def test_who_keeps_the_right_to_serve_is_told_when_a_reading_finds_another_history() -> None:
    node = HearingNode()
    await node.look(100)
    errors: list[Exception] = [IncarnationEndedError(), OtherHistoryError()]
    told: list[bool] = []
    node.horizon.on_other_history = lambda: told.append(True)

    async def fail(**_asked: int) -> ClusterReading:
        raise errors.pop()

    node.nodes.read_cluster = fail  # type: ignore[method-assign]
    with pytest.raises(IncarnationEndedError):
        await node.peers.run(0.0)
    assert (told, node.horizon.reached) == ([True], 100)


async def test_rows_that_cannot_be_read_end_no_node_and_keep_none_alive() -> None:
    node = HearingNode(alive(X))
    await node.look(100)
    tried: list[int] = []

    async def fail(*_asked: object, **_more: object) -> list[WrittenRow]:
        tried.append(len(tried))
        node.nodes.ended = len(tried) > 2
        raise ValueError("not a row")

    node.nodes.read_written = fail  # type: ignore[method-assign]
    node.nodes.horizon, node.nodes.next_xid = 101, 102
    watched: list[ClusterReading] = []
    node.leases.watch = watched.append  # type: ignore[assignment, method-assign]
    with pytest.raises(IncarnationEndedError):
        await node.peers.run(0.0)
    assert (len(tried), len(watched), node.horizon.reached) == (3, 3, 100)


async def test_a_node_that_was_ended_stops() -> None:
    node = HearingNode()
    await node.look(100)
    node.nodes.ended = True
    with pytest.raises(IncarnationEndedError):
        await node.peers.run(0.0)


async def test_quiet_dialogs_are_forgotten_when_the_position_has_passed_them() -> None:
    node = HearingNode(alive(X))
    await node.look(100)
    node.nodes.write(X, DIALOG, 1, 100)
    for horizon in range(101, 102 + 2 * module._ROUNDS_BETWEEN_MARKS):
        await node.look(horizon)
    assert len(node.order) == 0
