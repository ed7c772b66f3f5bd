"""Who is to be harmed: pairs that talk, and a newcomer who connects, both measured in an open loop.

A latency runs from when a message or a connect was due, so that a stall counts for everything that it delays. What
never arrives counts with the time until the end of the measurement.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

from loadtest.latencies import Latencies
from loadtest.lean_client import LeanClient, LoadError
from loadtest.own_server import OwnServer
from protocol.bodies import Posted, TimelineEvent
from protocol.codec import MSGPACK
from protocol.commands import Create, Heartbeat, Send
from protocol.dialog_types import DialogType, Mode
from protocol.ids import direct_dialog_id

_ADDRESS, _NEWCOMER = "127.0.0.2", "127.0.0.3"
_PAIRS = 4
_NEWCOMERS = 30
_MESSAGE_EVERY_S = 0.02
_CONNECT_EVERY_S = 0.2
_HEARTBEAT_EVERY = 500
_STRAGGLERS_S = 10.0
_STAMP_BYTES = 8


class Honest:
    """The honest clients of one server."""

    def __init__(self, server: OwnServer) -> None:
        self.troubles: list[str] = []
        self._server = server
        self._people = [self._person(f"honest-{number}") for number in range(2 * _PAIRS)]
        self._newcomers = [LeanClient(server.issuer.token(f"newcomer-{n}"), lambda _: None) for n in range(_NEWCOMERS)]
        self._came = 0
        self._due: dict[int, int] = {}
        self._latencies: list[int] = []
        self._connects: list[int] = []
        self._sent = 0

    async def connect(self) -> None:
        """Connect all, and make their dialogs."""
        for person in self._people:
            await person.connect(self._server.address, _ADDRESS)
            person.receiver = self._received
        for one, other in self._pairs():
            await one.ask(Create(1, one.next_n(), DialogType.DIRECT, [other.principal], mode=Mode.OPEN))
        for newcomer in self._newcomers:
            await self._connect_once(newcomer)

    @property
    def principals(self) -> list[bytes]:
        """Who they are."""
        return [person.principal for person in self._people]

    async def measure(self, during: Callable[[], bool]) -> tuple[float, float]:
        """Talk and connect while `during` holds; the 99th percentiles of messages and connects, in milliseconds."""
        self._due.clear()
        self._latencies, self._connects = [], []
        connecting: set[asyncio.Task[None]] = set()
        started = time.perf_counter()
        next_message = next_connect = started
        while during() or time.perf_counter() < started + 0.5:
            now = time.perf_counter()
            while next_message <= now:
                self._say(int(next_message * 1e9))
                next_message += _MESSAGE_EVERY_S
            while next_connect <= now:
                connecting.add(asyncio.create_task(self._newcome(int(next_connect * 1e9))))
                next_connect += _CONNECT_EVERY_S
            await asyncio.sleep(0.001)
        await self._await_stragglers(connecting)
        ended = time.perf_counter_ns()
        self._latencies += [ended - due for due in self._due.values()]
        return _p99(self._latencies), _p99(self._connects)

    async def disconnect(self) -> None:
        """Leave."""
        for person in self._people:
            await person.disconnect()

    def _pairs(self) -> list[tuple[LeanClient, LeanClient]]:
        return list(zip(self._people[::2], self._people[1::2], strict=True))

    def _person(self, name: str) -> LeanClient:
        return LeanClient(self._server.issuer.token(name), self.troubles.append)

    def _say(self, due_ns: int) -> None:
        self._sent += 1
        one, other = self._pairs()[self._sent % _PAIRS]
        dialog = direct_dialog_id(one.principal, other.principal)
        self._due[due_ns] = due_ns
        one.send(Send(1, dialog, one.next_n(), due_ns.to_bytes(_STAMP_BYTES, "big") + bytes(200)))
        if self._sent % _HEARTBEAT_EVERY == 0:
            for person in self._people:
                person.send(Heartbeat(0))

    def _received(self, client: LeanClient, message: bytes) -> None:
        now_ns = time.perf_counter_ns()
        event = MSGPACK.decode_server(message)
        if isinstance(event, TimelineEvent) and isinstance(event.body, Posted) and event.author != client.principal:
            due_ns = self._due.pop(int.from_bytes(event.body.payload[:_STAMP_BYTES], "big"), None)
            if due_ns is not None:
                self._latencies.append(now_ns - due_ns)

    async def _newcome(self, due_ns: int) -> None:
        self._came += 1
        with contextlib.suppress(OSError, LoadError):
            await self._connect_once(self._newcomers[self._came % _NEWCOMERS])
        self._connects.append(time.perf_counter_ns() - due_ns)

    async def _connect_once(self, newcomer: LeanClient) -> None:
        await newcomer.connect(self._server.address, _NEWCOMER)
        await newcomer.disconnect()

    async def _await_stragglers(self, connecting: set[asyncio.Task[None]]) -> None:
        until = time.perf_counter() + _STRAGGLERS_S
        while self._due and time.perf_counter() < until:  # noqa: ASYNC110 - a measurement looks at the clock anyway
            await asyncio.sleep(0.001)
        await asyncio.wait(connecting)


def _p99(nanoseconds: list[int]) -> float:
    latencies = Latencies()
    for each in nanoseconds:
        latencies.record(each)
    found = latencies.percentiles()
    assert found is not None
    return round(found.p99_ms, 1)
