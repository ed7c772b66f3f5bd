"""Events of several nodes: delivered in the order of their numbers, each once, and none is left out."""

from __future__ import annotations

import asyncio

import pytest

from protocol.bodies import TimelineEventRaw
from protocol.ids import new_id
from server.delivery import resequencer as module
from server.delivery.resequencer import Resequencer
from server.writing.durable import DurableEvents
from storage import nodes
from storage.rows import WrittenRow
from tests.support.fake_nodes import FakeNodes, event
from tests.support.turns import until

pytestmark = pytest.mark.anyio

DIALOG, OTHER = new_id(), new_id()
MINE, THEIRS = 1, 2


class Table:
    """A resequencer over a journal in memory; `delivered` are the numbers, `left` what sessions must read."""

    def __init__(self, *, floor: int = 0, dialogs_max: int = 10) -> None:
        self.nodes = FakeNodes()
        self.floor = floor
        self.delivered: list[int] = []
        self.left: list[tuple[bytes, int]] = []
        self.pauses: list[float] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.poison: int | None = None
        self.sut = Resequencer(
            self.nodes,
            self.deliver,
            lambda dialog, first: self.left.append((dialog, first)),
            lambda: self.floor,
            asyncio.ensure_future,
            dialogs_max=dialogs_max,
            sleep=self.sleep,
        )

    def deliver(self, what: TimelineEventRaw, _roster_seq: int) -> None:
        if what.seq == self.poison:
            raise ValueError("poison")
        self.delivered.append(what.seq)

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await self.gate.wait()

    def written(self, *seqs: int, dialog: bytes = DIALOG) -> None:
        """Rows whose stamps are ten times their numbers."""
        for seq in seqs:
            self.nodes.write(THEIRS, dialog, seq, seq * 10)

    def take(self, *seqs: int, dialog: bytes = DIALOG) -> None:
        for seq in seqs:
            self.sut.take(event(dialog, seq), 1)

    async def settled(self) -> list[int]:
        await self.sut.wait_settled()
        return self.delivered


async def test_events_in_order_are_delivered_at_once_and_repetitions_not_again() -> None:
    table = Table()
    table.written(1, 2, 3)
    table.take(1)
    assert await table.settled() == [1]
    table.sut.route([DurableEvents(DIALOG, (event(DIALOG, 2), event(DIALOG, 3)), 1)])
    table.take(2, 3, 1)
    assert table.delivered == [1, 2, 3]
    assert len(table.nodes.calls) == 1  # the look at a dialog that was not known


async def test_what_is_missing_is_waited_for_then_read_and_delivered_before_what_came_early() -> None:
    table = Table()
    table.written(1, 2, 3, 4)
    table.take(1)
    await table.settled()
    table.gate.clear()
    table.take(4)
    await until(lambda: table.pauses)
    assert (table.delivered, table.pauses) == ([1], [module.GAP_WAIT_S])
    table.gate.set()
    assert await table.settled() == [1, 2, 3, 4]
    assert (table.nodes.calls[-1], table.sut.gaps_read) == (("rows", 2, 3), 2)


async def test_what_comes_while_it_is_waited_for_is_not_read() -> None:
    table = Table()
    table.written(1)
    table.take(1)
    await table.settled()
    table.gate.clear()
    table.take(4, 3)
    table.take(2)
    assert table.delivered == [1, 2, 3, 4]
    table.gate.set()
    await table.settled()
    assert table.nodes.calls[1:] == []


async def test_of_a_dialog_that_is_not_known_what_the_floor_does_not_cover_is_delivered_first() -> None:
    table = Table(floor=30)
    table.written(1, 2, 3, 4, 5)
    table.take(5)
    assert await table.settled() == [3, 4, 5]


async def test_an_event_that_the_floor_covers_is_not_delivered_again() -> None:
    table = Table(floor=51)
    table.written(4, 5, 6)
    table.take(5)
    assert await table.settled() == []
    table.take(6)
    assert await table.settled() == [6]


async def test_dialogs_of_a_page_are_looked_up_together() -> None:
    table = Table(floor=20)
    table.written(1, 2, 3)
    table.written(1, 2, dialog=OTHER)
    rows = await table.nodes.read_written([THEIRS], 30, 100, after=(0, b"", 0))
    table.nodes.calls.clear()
    await table.sut.open([*rows, *await table.nodes.read_rows(OTHER, 2, 2)])
    assert table.nodes.calls == [("rows", 2, 2), ("unseen", 2, 20)]
    table.take(3)
    assert await table.settled() == [2, 3]


async def test_a_long_gap_is_read_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "PAGE_ROWS", 3)
    table = Table()
    table.written(*range(1, 11))
    table.take(1)
    await table.settled()
    table.take(10)
    assert await table.settled() == list(range(1, 11))
    assert table.nodes.calls[1:] == [("rows", 2, 9), ("rows", 5, 9), ("rows", 8, 9)]


@pytest.mark.parametrize("bound", ["_HELD_MAX", "_HELD_BYTES_MAX"])
async def test_what_is_beyond_the_bound_of_what_is_held_is_read_in_its_turn(
    bound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, bound, 2)
    table = Table()
    table.written(*range(1, 8))
    table.take(1)
    await table.settled()
    table.take(3, 4, 5, 6, 7)
    assert await table.settled() == list(range(1, 8))


async def test_what_arrives_while_the_missing_is_read_is_delivered_once() -> None:
    table = Table()
    table.written(1, 2, 3, 4)
    table.take(1)
    await table.settled()
    read_rows, table.nodes.read_rows = table.nodes.read_rows, None  # type: ignore[method-assign,assignment]

    async def read(dialog: bytes, first: int, last: int) -> list[WrittenRow]:
        rows = await read_rows(dialog, first, last)
        table.take(3, 2)
        return rows

    table.nodes.read_rows = read  # type: ignore[method-assign]
    table.take(4)
    assert await table.settled() == [1, 2, 3, 4]
    assert (table.left, table.sut._held_bytes) == ([], 0)


async def test_while_the_store_is_away_what_is_missing_is_asked_for_again() -> None:
    table = Table()
    table.written(1, 2, 3)
    table.nodes.away = 3
    table.take(1)
    await table.settled()
    table.nodes.away = 3
    table.take(3)
    assert await table.settled() == [1, 2, 3]


@pytest.mark.parametrize("there", [(1, 4), (1, 3, 4)], ids=["none of it", "its end"])
async def test_what_cannot_be_read_is_left_to_the_sessions(there: tuple[int, ...]) -> None:
    table = Table()
    table.written(*there)
    table.take(1)
    await table.settled()
    table.take(4)
    assert await table.settled() == [1]
    assert table.left == [(DIALOG, 2)]
    assert len(table.sut) == 0


async def test_an_event_that_cannot_be_delivered_is_left_to_the_sessions_and_stops_nothing() -> None:
    table = Table()
    table.written(1, 2, 3)
    table.poison = 2
    table.take(1)
    await table.settled()
    table.take(2, 3)
    assert (await table.settled(), table.left) == ([1, 3], [(DIALOG, 2)])


async def test_who_waits_until_all_is_delivered_waits_for_what_waits_now_and_no_longer() -> None:
    table = Table()
    table.written(1, 2, 3, 4, 5)
    table.take(1)
    await table.settled()
    table.gate.clear()
    table.take(3)
    await until(lambda: table.pauses)
    waiting = asyncio.ensure_future(table.sut.wait_settled())
    await asyncio.sleep(0)
    assert not waiting.done()
    table.take(5)  # the next gap, which nobody closes
    read_rows = table.nodes.read_rows

    async def read(dialog: bytes, first: int, last: int) -> list[WrittenRow]:
        rows = await read_rows(dialog, first, last)
        table.gate.clear()
        return rows

    table.nodes.read_rows = read  # type: ignore[method-assign]
    table.gate.set()
    await until(waiting.done)
    assert table.delivered == [1, 2, 3]


async def test_a_quiet_dialog_is_forgotten_and_a_busy_one_is_not() -> None:
    table = Table()
    table.written(1)
    table.written(1, 2, 3, dialog=OTHER)
    table.take(1)
    table.take(1, dialog=OTHER)
    await table.settled()
    table.sut.round += 1
    table.take(2, dialog=OTHER)
    table.sut.forget_before(1)
    assert len(table.sut) == 1
    table.nodes.calls.clear()
    table.take(3, dialog=OTHER)
    assert table.nodes.calls == []


async def test_the_dialogs_that_are_known_are_bounded_and_those_that_wait_are_kept() -> None:
    table = Table(dialogs_max=2)
    table.written(1, 2, 3)
    table.take(1)
    await table.settled()
    table.gate.clear()
    table.take(3)
    for _ in range(5):
        other = new_id()
        table.written(1, dialog=other)
        table.take(1, dialog=other)
    table.gate.set()
    await table.settled()
    await table.sut.open(await table.nodes.read_rows(other, 1, 1))
    assert table.delivered.count(2) == table.delivered.count(3) == 1
    table.written(1, dialog=OTHER)
    table.take(1, dialog=OTHER)
    await table.settled()
    await table.sut.open(await table.nodes.read_written([THEIRS], 0, 999, after=(0, b"", 0)))
    assert len(table.sut) == 2


async def test_what_waits_for_an_epoch_that_is_over_is_not_delivered() -> None:
    table = Table()
    table.written(1, 2, 3)
    table.take(1)
    await table.settled()
    table.gate.clear()
    table.take(3)
    await until(lambda: table.pauses)
    table.sut.forget_all()
    table.gate.set()
    assert await table.settled() == [1]
    assert table.sut._held_bytes == 0
