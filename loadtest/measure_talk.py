"""Talking: messages said by some clients and heard by many, in a closed or an open loop.

Latency runs from a stamp in the message to its arrival at somebody else: in a closed loop from when it was sent, in an
open one from when it was *meant* to be sent, so that a stall counts for everybody whom it would have met (no
coordinated omission). One process sends and receives, so there is one clock.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence

from loadtest.measure_client import Client, LoadError
from loadtest.measure_server import Server
from loadtest.measure_stage import Latency, Meter, Stage, percentiles
from protocol.bodies import Posted, TimelineEvent
from protocol.codec import MSGPACK
from protocol.commands import Send
from protocol.replies import Acked

PAYLOAD_BYTES = 256
_STAMP_BYTES = 8
_FILLER = bytes(range(PAYLOAD_BYTES - _STAMP_BYTES))
_HAPPENED = TimelineEvent.__struct_config__.tag
_ACKED = Acked.__struct_config__.tag
_TAG_AT = 1
"""Where a message's tag is: after one byte that says how long the array is."""
_PACE_S = 0.001
_WARM_UP_PART = 0.25
_STRAGGLERS_S = 10.0

Place = tuple[Client, bytes]
"""Somebody, and the dialog they write to."""


class Talk:
    """One stage of talking; `timed` are the listeners whose latencies count."""

    def __init__(
        self, server: Server, places: Sequence[Place], listeners: Iterable[Client], timed: set[Client]
    ) -> None:
        self._server = server
        self._places = places
        self._timed = timed
        self._next: dict[Client, bytes] = {}
        self._said = self._acked = self._delivered = 0
        self._latencies_ns: list[int] = []
        self._odd: list[str] = []
        for client in listeners:
            client.heard = self._heard

    async def closed_loop(self, seconds: float) -> tuple[Stage, Stage]:
        """Each place's next message follows the ack of its last: what was acked, and what was delivered."""
        self._next = dict(self._places)
        for client, dialog in self._places:
            self._say(client, dialog, time.perf_counter_ns())
        await asyncio.sleep(seconds * _WARM_UP_PART)
        self._latencies_ns.clear()
        acked, delivered = self._acked, self._delivered
        meter = Meter(self._server)
        await asyncio.sleep(seconds)
        sent, told = meter.stop(self._acked - acked), meter.stop(self._delivered - delivered)
        latency = percentiles(self._latencies_ns)
        self._next = {}
        await self._answered()
        return with_latency(sent, latency), with_latency(told, latency)

    async def open_loop(self, rate: float, seconds: float) -> Stage:
        """`rate` messages a second, by turns, whether or not earlier ones were answered."""
        await self._pace(rate, seconds * _WARM_UP_PART)
        self._latencies_ns.clear()
        acked = self._acked
        meter = Meter(self._server)
        await self._pace(rate, seconds)
        stage = meter.stop(self._acked - acked)
        await self._answered()
        return with_latency(stage, percentiles(self._latencies_ns))

    async def _pace(self, rate: float, seconds: float) -> None:
        started, interval_ns = time.perf_counter_ns(), 1e9 / rate
        for k in range(int(rate * seconds)):
            meant = started + int(k * interval_ns)
            if meant > (now_ns := time.perf_counter_ns()):
                await asyncio.sleep(max(_PACE_S, (meant - now_ns) / 1e9))
            self._say(*self._places[k % len(self._places)], meant)

    async def _answered(self) -> None:
        """Wait for what is under way, so that it does not disturb the next stage."""
        until = time.perf_counter() + _STRAGGLERS_S
        while self._acked < self._said and not self._odd:
            if time.perf_counter() > until:
                raise LoadError(f"{self._said - self._acked} of {self._said} sends were not acked")
            await asyncio.sleep(_PACE_S)
        if self._odd:
            raise LoadError(f"{len(self._odd)} times something else than acks and events, first: {self._odd[0]}")

    def _say(self, client: Client, dialog: bytes, stamp_ns: int) -> None:
        self._said += 1
        client.send(Send(1, dialog, client.next_n(), stamp_ns.to_bytes(_STAMP_BYTES, "big") + _FILLER))

    def _heard(self, client: Client, message: bytes) -> None:
        tag = message[_TAG_AT]
        if tag == _HAPPENED:
            self._delivered += 1
            if client in self._timed:
                self._time(client, message)
        elif tag == _ACKED:
            self._acked += 1
            if (dialog := self._next.get(client)) is not None:
                self._say(client, dialog, time.perf_counter_ns())
        else:
            self._odd.append(type(MSGPACK.decode_server(message)).__name__)

    def _time(self, client: Client, message: bytes) -> None:
        now_ns = time.perf_counter_ns()
        event = MSGPACK.decode_server(message)
        assert isinstance(event, TimelineEvent)
        if event.author != client.principal and isinstance(event.body, Posted):
            self._latencies_ns.append(now_ns - int.from_bytes(event.body.payload[:_STAMP_BYTES], "big"))


def with_latency(stage: Stage, latency: Latency | None) -> Stage:
    """The stage, and how long its messages took."""
    return Stage(stage.seconds, stage.done, stage.usage, stage.load_s, latency)
