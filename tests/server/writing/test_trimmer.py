"""The trimmer sweeps in steps, rests in between, and goes on after an outage."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from protocol.kinds import DAY_MS
from server.writing.trimmer import REST_S, SWEEP_INTERVAL_S, Trimmer
from storage.trimming import TrimStep
from storage.unavailable import StorageUnavailableError
from tests.support.clock import ManualClock

pytestmark = pytest.mark.anyio


class FakeTrimming:
    """A store whose steps are these; remembers what it was asked."""

    def __init__(self, *steps: TrimStep | Exception) -> None:
        self._steps = list(steps)
        self.asked: list[tuple[int, int]] = []

    async def trim(self, now_ms: int, *, kept_ms: int) -> TrimStep:
        self.asked.append((now_ms, kept_ms))
        step = self._steps.pop(0)
        if isinstance(step, Exception):
            raise step
        return step


async def run(trimming: Any, clock: ManualClock, pauses_max: int) -> tuple[Trimmer, list[float]]:
    """Run a trimmer for so many pauses."""
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == pauses_max:
            raise asyncio.CancelledError

    trimmer = Trimmer(trimming, clock, kept_days=31, sleep=sleep)
    with pytest.raises(asyncio.CancelledError):
        await trimmer.run()
    return trimmer, pauses


async def test_it_sweeps_step_by_step_and_then_waits(clock: ManualClock) -> None:
    trimming = FakeTrimming(TrimStep(7, False), TrimStep(0, False), TrimStep(3, True))
    trimmer, pauses = await run(trimming, clock, 3)
    assert (trimmer.rows, pauses) == (10, [REST_S, REST_S, SWEEP_INTERVAL_S])
    assert trimming.asked == [(clock.wall_ms(), 31 * DAY_MS)] * 3


@pytest.mark.parametrize("fault", [StorageUnavailableError("gone"), ValueError("a row that nobody expected")])
async def test_no_error_ends_it(clock: ManualClock, fault: Exception) -> None:
    trimmer, pauses = await run(FakeTrimming(fault, TrimStep(1, True)), clock, 2)
    assert (trimmer.rows, pauses) == (1, [SWEEP_INTERVAL_S, SWEEP_INTERVAL_S])
