"""Everybody is cut off and comes back, again and again."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator

from loadtest.checking_client import CheckingClient
from loadtest.crowd import Crowd, each
from loadtest.loads import Times, wait_until
from loadtest.scenario import StormLoad


class Storm:
    """The load `storm` of one worker; `at_once` is its share."""

    def __init__(self, spec: StormLoad, crowd: Crowd, at_once: int) -> None:
        self._spec = spec
        self._crowd = crowd
        self._at_once = at_once

    async def prepare(self) -> None:
        await self._crowd.gather_neighbours(self._spec.dialogs)

    async def run(self, times: Times) -> None:
        await wait_until(times.begin_ns)

        resting = deque(self._crowd.people)

        async def again(client: CheckingClient) -> None:
            await client.disconnect()
            if not self._spec.resume:
                client.position = ""
            await self._crowd.connect(client)
            resting.append(client)

        def turns() -> Iterator[CheckingClient]:
            while time.monotonic_ns() < times.until_ns:
                yield resting.popleft()

        await each(turns(), again, min(self._at_once, len(resting)))

    async def settle(self) -> None:
        """Nothing is under way."""
