"""Messages from some places, in a closed or an open loop.

A closed loop: each writer sends its next message after the ack of the last. An open loop: messages are due at moments
of a schedule, whatever has been answered. Waits in this process count, since latencies begin when a message is due (no
coordinated omission).
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence

from loadtest.checking_client import CheckingClient
from loadtest.loads import Times, wait_until
from loadtest.pieces import Payload

Place = tuple[CheckingClient, bytes]
"""Who writes, and the dialog."""

_PACE_S = 0.001
_BATCH = 64


class Traffic:
    """Messages of one payload from these places."""

    def __init__(self, places: Sequence[Place], payload: Payload) -> None:
        self._places = places
        self._payload = payload
        self._dialogs: dict[CheckingClient, Iterator[bytes]] = {}
        self._until_ns = 0

    async def closed_loop(self, times: Times) -> None:
        """One message of each writer is under way until the end, in its dialogs in turn."""
        self._until_ns = times.until_ns
        dialogs = defaultdict(list)
        for writer, dialog in self._places:
            dialogs[writer].append(dialog)
        self._dialogs = {writer: itertools.cycle(own) for writer, own in dialogs.items()}
        await wait_until(times.begin_ns)
        for writer in self._dialogs:
            writer.then = self._post_next
            self._post_next(writer)
        await wait_until(times.until_ns)

    async def open_loop(self, rate: float, times: Times, *, ramp_s: float = 0.0, offset_s: float = 0.0) -> None:
        """So many messages a second, the places in turn, until the end; the schedule begins `offset_s` late."""
        await wait_until(times.begin_ns)
        places, payload = itertools.cycle(self._places), self._payload
        async for due_ns in moments(times, rate, ramp_s, offset_s):
            writer, dialog = next(places)
            writer.post(dialog, payload.make(due_ns), due_ns)
            writer.tally.take_sent(due_ns, time.monotonic_ns())

    def _post_next(self, writer: CheckingClient) -> None:
        now_ns = time.monotonic_ns()
        if now_ns < self._until_ns:
            writer.post(next(self._dialogs[writer]), self._payload.make(now_ns), now_ns)


async def moments(times: Times, rate: float, ramp_s: float = 0.0, offset_s: float = 0.0) -> AsyncIterator[int]:
    """Each moment of a schedule once it is due, however late, until the end; nanoseconds of CLOCK_MONOTONIC."""
    begin_ns = times.begin_ns + int(offset_s * 1e9)
    for k, due_s in enumerate(schedule(rate, ramp_s)):
        due_ns = begin_ns + int(due_s * 1e9)
        if due_ns >= times.until_ns:
            return
        if due_ns > (now_ns := time.monotonic_ns()):
            await asyncio.sleep(max(_PACE_S, (due_ns - now_ns) / 1e9))
        elif k % _BATCH == 0:
            await asyncio.sleep(0)  # behind the schedule, acks and deliveries must still be read
        yield due_ns


def schedule(rate: float, ramp_s: float) -> Iterator[float]:
    """When messages are due, in seconds from the beginning: at this rate, which is reached evenly in `ramp_s`."""
    k, in_ramp = 0, rate * ramp_s / 2
    while True:
        yield (2 * ramp_s * k / rate) ** 0.5 if k < in_ramp else ramp_s + (k - in_ramp) / rate
        k += 1
