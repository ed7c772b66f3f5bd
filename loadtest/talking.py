"""Messages in dialogs, in a closed or an open loop.

A closed loop: each writer sends its next message after the ack of the last. An open loop: messages are due at moments
of a schedule, whatever has been answered. Waits in this process count, since latencies begin when a message is due (no
coordinated omission).
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator

from loadtest.checking_client import CheckingClient
from loadtest.crowd import Crowd
from loadtest.ledger import Ledger
from loadtest.loads import Share, Times, settle_deliveries, wait_until
from loadtest.pieces import Payload
from loadtest.scenario import TalkLoad
from loadtest.sealed_dialogs import list_devices, share_sessions
from protocol.dialog_types import Mode

_PACE_S = 0.001
_TIMED_PER_GROUP = 2
_BATCH = 64


class Talking:
    """The load `talk` of one worker."""

    def __init__(self, spec: TalkLoad, crowd: Crowd, ledger: Ledger, share: Share, ramp_s: float) -> None:
        self._spec = spec
        self._crowd = crowd
        self._ledger = ledger
        self._share = share
        self._ramp_s = ramp_s
        self._payload = Payload(spec.payload_bytes)
        self._places: list[tuple[CheckingClient, bytes]] = []
        self._dialogs: dict[CheckingClient, Iterator[bytes]] = {}
        self._until_ns = 0

    async def prepare(self) -> None:
        if self._spec.sealed:
            self._crowd.mode = Mode.SEALED
            await list_devices(self._crowd.people)
        await self._gather()
        if self._spec.sealed:
            await share_sessions(self._crowd, self._payload.make(0))
        for number in range(self._spec.writers):
            self._places += [(each.members[number], each.dialog) for each in self._crowd.gatherings]
        for each in self._crowd.gatherings:
            for member in each.members[-_TIMED_PER_GROUP:]:
                member.timed = True

    async def _gather(self) -> None:
        people, size = self._crowd.people, self._spec.dialog_size
        if size == 2:
            await self._crowd.gather_pairs(list(zip(people[::2], people[1::2], strict=False)))
        else:
            await self._crowd.gather_groups(size, dialogs=self._spec.dialogs)

    async def run(self, times: Times) -> None:
        self._until_ns = times.until_ns
        await wait_until(times.begin_ns)
        if self._spec.rate:
            await self._follow_schedule(times)
            return
        dialogs = defaultdict(list)
        for writer, dialog in self._places:
            dialogs[writer].append(dialog)
        self._dialogs = {writer: itertools.cycle(own) for writer, own in dialogs.items()}
        for writer in self._dialogs:
            writer.then = self._post_next
            self._post_next(writer)
        await wait_until(times.until_ns)

    async def settle(self) -> None:
        await settle_deliveries(self._crowd, self._ledger)

    def _post_next(self, writer: CheckingClient) -> None:
        now_ns = time.monotonic_ns()
        if now_ns < self._until_ns:
            writer.post(next(self._dialogs[writer]), self._payload.make(now_ns), now_ns)

    async def _follow_schedule(self, times: Times) -> None:
        rate = self._spec.rate / self._share.of
        ledger, places, payload = self._ledger, itertools.cycle(self._places), self._payload
        async for due_ns in moments(times, rate, self._ramp_s, self._share.number / self._spec.rate):
            writer, dialog = next(places)
            writer.post(dialog, payload.make(due_ns), due_ns)
            ledger.take_sent(due_ns, time.monotonic_ns())


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
