"""The loop of the simulation: virtual time, a drawn order, processes that die."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.simulation.loop import Process, VirtualLoop


@pytest.fixture
def loop() -> VirtualLoop:
    return VirtualLoop(random.Random(1))  # type: ignore[abstract]


async def pause(seconds: float) -> None:
    """Let virtual time pass."""
    over = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(seconds, over.set_result, None)
    await over


def test_time_jumps_to_the_next_timer(loop: VirtualLoop) -> None:
    ended: list[float] = []

    async def wait() -> None:
        await pause(1_000)
        async with asyncio.timeout(500):
            await pause(400)
        ended.append(loop.time())

    loop.create_task(wait())
    loop.run_for(10_000)
    assert ended == [1_400.0]
    assert loop.time() == 10_000


def test_what_is_ready_runs_in_a_drawn_order() -> None:
    def run(seed: int) -> list[int]:
        loop = VirtualLoop(random.Random(seed))  # type: ignore[abstract]
        order: list[int] = []
        for number in range(5):
            loop.call_soon(order.append, number)
        loop.run_for(1)
        return order

    assert run(1) == run(1)
    assert len({tuple(run(seed)) for seed in range(20)}) > 10


def test_nothing_of_a_dead_process_runs(loop: VirtualLoop) -> None:
    process, log = Process("node"), list[str]()

    async def work() -> None:
        try:
            log.append("began")
            await pause(1)
            log.append("went on")
        finally:
            log.append("cleaned up")

    loop.create_task(work(), context=process.context)
    loop.run_for(0.5)
    process.alive = False
    loop.run_for(5)
    assert log == ["began"]


def test_a_process_that_stands_still_goes_on_later(loop: VirtualLoop) -> None:
    process, log = Process("node"), list[float]()
    loop.call_later(1, lambda: log.append(loop.time()), context=process.context)
    process.paused = []
    loop.run_for(5)
    assert log == []
    loop.resume(process)
    loop.run_for(5)
    assert log == [5.0]


def test_what_a_process_starts_dies_with_it(loop: VirtualLoop) -> None:
    process, log = Process("node"), list[str]()
    loop.call_soon(lambda: loop.call_later(1, log.append, "later"), context=process.context)
    loop.call_soon(lambda: loop.call_later(1, log.append, "other"))
    loop.run_for(0.5)
    process.alive = False
    loop.run_for(5)
    assert log == ["other"]


def test_an_exception_that_nobody_handles_is_noted(loop: VirtualLoop) -> None:
    def fail() -> None:
        raise ValueError("oops")

    loop.call_soon(fail)
    loop.run_for(1)
    assert "oops" in loop.faults[0]
