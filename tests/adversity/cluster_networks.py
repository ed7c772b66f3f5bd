"""What a network does to connections: each trouble takes a proxy, lasts for a while, and says how often it was felt."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable

from tests.support.cutting_proxy import CuttingProxy

_LASTS_S = (2.0, 8.0)
_LOST_FOR_S = (4.0, 12.0)
_DELAYS_S = (0.005, 0.5)


async def becomes(condition: Callable[[], bool], *, within_s: float) -> bool:
    """Wait until something holds, and say whether it came to that."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            while not condition():  # noqa: ASYNC110 - what happens in other processes sets no event
                await asyncio.sleep(0.02)
    return condition()


async def cut(proxy: CuttingProxy, rng: random.Random) -> int:
    """The connections are reset."""
    return proxy.cut(rng)


async def hold(proxy: CuttingProxy, rng: random.Random) -> int:
    """Nothing arrives for a while, in one direction or both; then all does."""
    before = proxy.withheld
    to_server, to_client = rng.choice(((True, True), (True, False), (False, True)))
    proxy.hold(to_server=to_server, to_client=to_client)
    await asyncio.sleep(rng.uniform(*_LASTS_S))
    proxy.release()
    return proxy.withheld - before


async def black_hole(proxy: CuttingProxy, rng: random.Random) -> int:
    """Nothing arrives for a while, and no end learns of it; what was on its way is lost."""
    before = proxy.swallowed
    proxy.hold()
    await asyncio.sleep(rng.uniform(*_LOST_FOR_S))
    proxy.swallow()
    return proxy.swallowed - before


async def delay(proxy: CuttingProxy, rng: random.Random) -> int:
    """All that passes is late by 5 to 500 ms, in its order."""
    before = proxy.delayed
    proxy.delay_s = _DELAYS_S
    await asyncio.sleep(rng.uniform(*_LASTS_S))
    proxy.delay_s = (0.0, 0.0)
    return proxy.delayed - before


async def slice_up(proxy: CuttingProxy, rng: random.Random) -> int:
    """All that passes arrives in slices of a few bytes."""
    before = proxy.sliced
    proxy.slicing = True
    await asyncio.sleep(rng.uniform(*_LASTS_S))
    proxy.slicing = False
    return proxy.sliced - before


TROUBLES: dict[str, Callable[[CuttingProxy, random.Random], Awaitable[int]]] = {
    "cut": cut,
    "hold": hold,
    "black hole": black_hole,
    "delay": delay,
    "slice": slice_up,
}
