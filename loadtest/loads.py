"""What every load is: what it is given, and what it does when."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

import msgspec

from loadtest.crowd import Crowd
from loadtest.tally import Tally

_LOOK_S = 0.01


class Times(msgspec.Struct, frozen=True):
    """When a load begins, when its warm-up ends, and when it ends: nanoseconds of CLOCK_MONOTONIC."""

    begin_ns: int
    from_ns: int
    until_ns: int


class Share(msgspec.Struct, frozen=True):
    """Which of how many workers this is: rates are divided among them."""

    number: int
    of: int


class Load(Protocol):
    """One kind of load in one worker. It is made of its part of the scenario, a `Crowd`, a `Tally`, and a `Share`.

    The tally counts and checks what clients of the crowd receive; the load has them do something.
    """

    async def prepare(self) -> None:
        """Make what the load needs; the people are connected."""

    async def run(self, times: Times) -> None:
        """Work from the beginning until the end; what is under way then may be."""

    async def settle(self) -> None:
        """Wait, at most so long, until what is under way has ended."""


async def wait_until(at_ns: int) -> None:
    """Sleep until this moment."""
    await asyncio.sleep(max(0.0, (at_ns - time.monotonic_ns()) / 1e9))


def until_whole_second_s() -> float:
    """How long until the next whole second of CLOCK_MONOTONIC, when all processes of a run take their counts."""
    return 1.0 - time.monotonic() % 1.0


async def settle_deliveries(crowd: Crowd, tally: Tally, at_most_s: float = 10.0) -> None:
    """Wait until every send is answered and every member has what was acked."""
    for _ in range(int(at_most_s / _LOOK_S)):
        if tally.is_settled(crowd.members):
            return
        await asyncio.sleep(_LOOK_S)
