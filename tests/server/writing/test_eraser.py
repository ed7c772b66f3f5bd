"""The eraser works in steps, rests in between, and goes on after an outage."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from protocol.bodies import Erased
from protocol.dialog_types import DialogType
from server.config.settings import EraserSettings
from server.steps import REST_S
from server.writing.eraser import Eraser
from storage.rows import ErasureStep
from storage.unavailable import StorageUnavailableError
from tests.support.clock import ManualClock
from tests.support.harness import configured, running
from tests.support.world import message

pytestmark = pytest.mark.anyio

SETTINGS = EraserSettings(interval_s=10.0, step_rows=7)


class FakeJournal:
    """A store whose steps are these; remembers what it was asked."""

    def __init__(self, *steps: ErasureStep | Exception) -> None:
        self._steps = list(steps)
        self.asked: list[tuple[int, int]] = []

    async def erase_due(self, now_ms: int, *, limit: int) -> ErasureStep:
        self.asked.append((now_ms, limit))
        step = self._steps.pop(0)
        if isinstance(step, Exception):
            raise step
        return step


async def run(journal: Any, clock: ManualClock, pauses_max: int, put_back: Any = None) -> tuple[Eraser, list[float]]:
    """Run an eraser for so many pauses."""
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == pauses_max:
            raise asyncio.CancelledError

    eraser = Eraser(journal, SETTINGS, clock, put_back=put_back, sleep=sleep)
    with pytest.raises(asyncio.CancelledError):
        await eraser.run()
    return eraser, pauses


async def test_it_goes_on_while_something_is_due_and_then_waits(clock: ManualClock) -> None:
    journal = FakeJournal(ErasureStep(7, True, 0), ErasureStep(7, True, 0), ErasureStep(3, False, None))
    eraser, pauses = await run(journal, clock, 3)
    assert pauses == [REST_S, REST_S, 10.0]
    assert journal.asked == [(clock.wall_ms(), 7)] * 3
    assert (eraser.rows, eraser.lag_s) == (17, 0.0)


async def test_it_says_for_how_long_the_oldest_waits(clock: ManualClock) -> None:
    lags: list[float] = []

    async def sleep(_seconds: float) -> None:
        lags.append(eraser.lag_s)
        clock.advance(1.0)
        lags.append(eraser.lag_s)
        raise asyncio.CancelledError

    journal: Any = FakeJournal(ErasureStep(7, True, clock.wall_ms() - 5000))
    eraser = Eraser(journal, SETTINGS, clock, sleep=sleep)
    with pytest.raises(asyncio.CancelledError):
        await eraser.run()
    assert [*lags, eraser.lag_s] == [5.0, 6.0, 0.0]  # when it has been stopped, another node knows


@pytest.mark.parametrize("fault", [StorageUnavailableError("gone"), ValueError("a row that nobody expected")])
async def test_no_error_ends_it(clock: ManualClock, fault: Exception) -> None:
    journal = FakeJournal(fault, ErasureStep(1, False, None))
    eraser, pauses = await run(journal, clock, 2)
    assert (eraser.rows, pauses) == (1, [10.0, 10.0])


async def test_it_asks_for_what_has_left_the_journal_a_bounded_part_at_a_time(clock: ManualClock) -> None:
    asked: list[tuple[bytes, int]] = []

    class PutBack:
        def want(self, dialog: bytes, seq: int) -> None:
            asked.append((dialog, seq))

    steps = [ErasureStep(0, False, 0, (b"few", 2, 3)), ErasureStep(0, False, 0, (b"many", 1, 2**40))]
    await run(FakeJournal(*steps), clock, 2, PutBack())
    assert asked[:2] == [(b"few", 2), (b"few", 3)]
    assert asked[2:] == [(b"many", seq) for seq in range(1, 1001)]


async def test_a_node_erases_what_has_expired(database_url: str) -> None:
    async with running(database_url, configured(eraser=EraserSettings(interval_s=0.01))) as server:
        ann, bo = await server.world.people(2)
        dialog = await server.world.create(DialogType.DIRECT, ann, bo)
        await server.world.flush(message(dialog, ann, expires_at_ms=1))
        async with asyncio.timeout(20):
            while server.node.eraser.rows == 0:
                await server.world.pool.fetchval("SELECT 1")
        rows = await server.world.timelines.read_events(bo.principal, [(dialog, 2, 2)], limit=9)
        assert [bytes(row.body) for row in rows] == [msgspec.msgpack.encode(Erased())]
