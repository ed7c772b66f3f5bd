"""A day of a messenger: each person thinks, reads what came, then writes, looks back, or is cut off and comes back."""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict

from loadtest.checking_client import ASK_ID, CheckingClient
from loadtest.crowd import Crowd
from loadtest.loads import Share, Times, settle_deliveries, wait_until
from loadtest.pieces import Payload
from loadtest.scenario import MixedLoad
from loadtest.tally import Tally
from protocol.commands import HighWaterMark, History, Receipt, Typing

_WRITING_S = 2.0
"""The longest that somebody writes on a message; they never write longer than they think."""
_NO_ANSWER = 0


class Mixed:
    """The load `mixed` of one worker; what people do follows from the number of the worker."""

    def __init__(self, spec: MixedLoad, crowd: Crowd, tally: Tally, share: Share) -> None:
        self._spec = spec
        self._crowd = crowd
        self._tally = tally
        self._random = random.Random(share.number)  # noqa: S311 - the same each time, on purpose
        self._days: list[Day] = []

    async def prepare(self) -> None:
        crowd, spec = self._crowd, self._spec
        await crowd.gather_neighbours(spec.direct_dialogs)
        for _ in range(spec.groups):
            await crowd.gather_groups(spec.group_size, self._random.sample(crowd.people, len(crowd.people)))
        dialogs: dict[CheckingClient, list[bytes]] = defaultdict(list)
        for member, dialog in crowd.members:
            dialogs[member].append(dialog)
        for person, theirs in dialogs.items():
            person.timed = True
            self._days.append(Day(spec, crowd, person, theirs, random.Random(self._random.random())))  # noqa: S311

    async def run(self, times: Times) -> None:
        await asyncio.gather(*(day.spend(times) for day in self._days))

    async def settle(self) -> None:
        await settle_deliveries(self._crowd, self._tally)


class Day:
    """What one person does."""

    def __init__(
        self, spec: MixedLoad, crowd: Crowd, person: CheckingClient, dialogs: list[bytes], chance: random.Random
    ) -> None:
        self._spec = spec
        self._crowd = crowd
        self._person = person
        self._dialogs = dialogs
        self._chance = chance
        self._payload = Payload(spec.payload_bytes)
        self._read: dict[bytes, int] = {}

    async def spend(self, times: Times) -> None:
        """Act until the end, after a random pause each time."""
        due_ns = times.begin_ns
        while True:
            due_ns = max(due_ns, time.monotonic_ns()) + int(self._chance.expovariate(1 / self._spec.think_s) * 1e9)
            await wait_until(min(due_ns, times.until_ns))
            if due_ns >= times.until_ns:
                return
            await self._act(times)

    async def _act(self, times: Times) -> None:
        self._confirm()
        choice, dialog = self._chance.random(), self._chance.choice(self._dialogs)
        if choice < self._spec.reconnect_part:
            await self._person.await_answers()  # a client with an outbox would send again what has no answer
            await self._person.disconnect()
            await self._crowd.connect(self._person)
        elif choice < self._spec.reconnect_part + self._spec.history_part:
            await self._person.ask(History(ASK_ID, dialog))
        else:
            await self._write(dialog, times)

    def _confirm(self) -> None:
        """Say of each dialog with something new that it is read."""
        for dialog in self._dialogs:
            head = self._person.heads.get(dialog, 0)
            if head > self._read.get(dialog, 0):
                self._read[dialog] = head
                self._person.send(Receipt(_NO_ANSWER, HighWaterMark(dialog, head, head)))

    async def _write(self, dialog: bytes, times: Times) -> None:
        self._person.send(Typing(_NO_ANSWER, dialog))
        writing_s = min(_WRITING_S, self._spec.think_s) * self._chance.random()
        due_ns = time.monotonic_ns() + int(writing_s * 1e9)
        await wait_until(due_ns)
        if due_ns < times.until_ns:
            self._person.post(dialog, self._payload.make(due_ns), due_ns)
