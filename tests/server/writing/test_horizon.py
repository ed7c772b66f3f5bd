"""The horizon: handed out when all before it is delivered, never past what was read; watched when it stands still."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from protocol.bodies import TimelineEvent
from protocol.commands import Send
from protocol.dialog_types import DialogType
from protocol.ids import new_id
from protocol.replies import Acked
from server.writing.horizon import Horizon, Settled
from server.writing.position import Positions
from storage.rows import HorizonReading
from storage.unavailable import IncarnationEndedError, OtherHistoryError, StorageUnavailableError
from tests.support.clock import ManualClock
from tests.support.faulty import FaultyTimelines
from tests.support.harness import Running, configured, running

pytestmark = pytest.mark.anyio

ANN = new_id()


class Read:
    """A journal of which only the horizon is read: what comes next, or an error."""

    def __init__(self, *readings: tuple[int, int] | Exception) -> None:
        self.readings = list(readings)
        self.asked = 0

    async def read_horizon(self, *, incarnation: int) -> HorizonReading:
        assert incarnation == 1
        reading = self.readings.pop(0)
        if isinstance(reading, Exception):
            raise reading
        return HorizonReading(*reading)

    async def find_oldest_writer(self) -> str:
        self.asked += 1
        return "pid 7"


def horizon(journal: Any, *settled: Settled, clock: ManualClock | None = None) -> Horizon:
    clock = clock or ManualClock()
    positions = Positions(bytes(32), clock, age_max_s=100.0)
    return Horizon(journal, positions, clock, *settled, epoch=1, incarnation=1)


async def test_a_horizon_is_handed_out_when_what_was_under_way_has_been_delivered() -> None:
    gates = [asyncio.Event(), asyncio.Event()]

    async def wait(gate: asyncio.Event) -> None:
        await gate.wait()

    ours = horizon(Read((10, 11)), *(lambda gate=gate: wait(gate) for gate in gates))
    advancing = asyncio.ensure_future(ours.advance())
    for gate in gates:
        for _ in range(9):
            await asyncio.sleep(0)
        assert ours.position_of(ANN) == ""
        gate.set()
    await advancing
    assert ours.since(ours.read_position(ours.position_of(ANN), ANN)) == 10


async def test_who_keeps_the_right_to_serve_is_told_when_a_reading_finds_another_history() -> None:
    ours = horizon(Read(OtherHistoryError(), IncarnationEndedError()))
    told: list[bool] = []
    ours.on_other_history = lambda: told.append(True)
    with pytest.raises(IncarnationEndedError):
        await ours.run(0.0)
    assert told == [True]


async def test_the_position_of_a_snapshot_is_not_past_the_horizon() -> None:
    """What a snapshot sees beyond it may have an id that is given out again after a crash of PostgreSQL."""
    ours = horizon(Read((10, 11)))
    await ours.advance()
    assert ours.since(ours.read_position(ours.position_at(99, ANN), ANN)) == 10
    assert ours.since(ours.read_position(ours.position_at(9, ANN), ANN)) == 9


async def test_a_horizon_of_the_epoch_before_is_not_handed_out() -> None:
    async def begin_epoch() -> None:
        ours.begin_epoch(2)

    ours = horizon(Read((10, 11)), begin_epoch)
    await ours.advance()
    assert ours.position_of(ANN) == ""


async def test_the_age_of_a_horizon_is_that_of_the_newest_write_it_covers() -> None:
    clock, ages = ManualClock(), []
    ours = horizon(Read((10, 11), (12, 13), (12, 20), (12, 30), (31, 31), (32, 32)), clock=clock)
    for _ in range(6):
        clock.advance(1.0)
        await ours.advance()
        ages.append(ours.age_s)
    # The second covers all that had begun at the first. Then 12 stays open; the fifth covers what the second saw.
    assert ages == [1.0, 1.0, 2.0, 3.0, 3.0, 1.0]


async def test_a_horizon_that_is_held_back_is_logged_once_a_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, journal = ManualClock(), Read((10, 12), *[(10, 12)] * 80, IncarnationEndedError())

    async def sleep(seconds: float) -> None:
        clock.advance(seconds)

    monkeypatch.setattr("server.writing.horizon.asyncio.sleep", sleep)
    with pytest.raises(IncarnationEndedError):
        await horizon(journal, clock=clock).run(1.0)
    assert [record.getMessage() for record in caplog.records] == [
        f"clients' positions are {age} s old: PostgreSQL has an open writing transaction (pid 7); end it"
        for age in (10, 70)
    ]


async def test_what_holds_the_horizon_is_named(caplog: pytest.LogCaptureFixture) -> None:
    clock, gate = ManualClock(), asyncio.Event()

    async def pass_gate() -> None:
        await gate.wait()

    ours = horizon(Read((10, 12)), pass_gate, clock=clock)
    advancing = asyncio.ensure_future(ours.advance())
    await asyncio.sleep(0)
    clock.advance(11.0)
    await ours.warn_if_old("node x (incarnation 3)")
    gate.set()
    await advancing
    clock.advance(61.0)
    await ours.warn_if_old("node x (incarnation 3)")
    assert [record.getMessage() for record in caplog.records] == [
        "clients' positions are 11 s old: what this node writes has no answer, or is not delivered",
        "clients' positions are 72 s old: node x (incarnation 3) is not heard",
    ]


async def test_a_horizon_is_read_again_after_an_outage_but_not_when_another_node_has_taken_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(IncarnationEndedError):
        await horizon(Read(StorageUnavailableError("gone"), OSError(), (10, 11), IncarnationEndedError())).run(0.0)
    said = "the horizon cannot be read, trying again"
    assert [record.getMessage() for record in caplog.records] == [f"{said}: gone", said]


@pytest.fixture
async def server(database_url: str) -> AsyncIterator[Running]:
    async with running(database_url, configured()) as node:
        yield node


async def test_no_position_of_a_node_passes_an_event_that_waits_for_its_roster(server: Running) -> None:
    ann, bo = await server.world.people(2)
    dialog = await server.world.create(DialogType.DIRECT, ann, bo)
    timelines = FaultyTimelines(server.world)
    timelines.gate = asyncio.Event()
    server.node.rooms._timelines = timelines
    async with server.live(ann) as a, server.live(bo) as b:
        assert isinstance(await a.ask(Send(3, dialog, 10, b"")), Acked)
        advancing = asyncio.ensure_future(server.node.horizon.advance())
        for _ in range(3):
            await server.world.read_horizon()
        assert not advancing.done()
        timelines.gate.set()
        await advancing
        assert (await b.until(TimelineEvent)).seq == 2
