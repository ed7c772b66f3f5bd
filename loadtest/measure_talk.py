"""Messages sent by some clients and received by many, in a closed or an open loop.

Latency runs from a stamp in the message to its arrival at another client: in a closed loop from when it was sent, in an
open one from when it was *due*, so that a stall counts for every message that it delays (no coordinated omission). One
process sends and receives, so there is one clock.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence

from loadtest.measure_client import LeanClient, LoadError
from loadtest.measure_stage import Latency, Measured, Meter, Stage, percentiles
from protocol.bodies import Posted, TimelineEvent
from protocol.codec import MSGPACK
from protocol.commands import Send
from protocol.events import HeartbeatReply
from protocol.replies import Acked

PAYLOAD_BYTES = 256
_STAMP_BYTES = 8
_FILLER = bytes(range(PAYLOAD_BYTES - _STAMP_BYTES))
_EVENT = TimelineEvent.__struct_config__.tag
_ACKED = Acked.__struct_config__.tag
_HEARTBEAT = HeartbeatReply.__struct_config__.tag
_TAG_AT = 1
"""The place of the tag in a message: after the byte with the length of the array."""
_PACE_S = 0.001
_WARM_UP_PART = 0.25
_STRAGGLERS_S = 10.0

Place = tuple[LeanClient, bytes]
"""A client, and the dialog that it writes to."""


class Traffic:
    """The traffic of one stage; `timed` are the listeners whose latencies count."""

    def __init__(
        self, server: Measured, places: Sequence[Place], listeners: Iterable[LeanClient], timed: set[LeanClient]
    ) -> None:
        self._server = server
        self._places = places
        self._timed = timed
        self._next: dict[LeanClient, bytes] = {}
        self._sent = self._acked = self._delivered = 0
        self._latencies_ns: list[int] = []
        self._odd: list[str] = []
        for client in listeners:
            client.receiver = self.receive

    async def closed_loop(self, seconds: float) -> tuple[Stage, Stage]:
        """Each place sends its next message after the ack of the last; returns the acked and the delivered."""
        self._next = dict(self._places)
        for client, dialog in self._places:
            self._send(client, dialog, time.perf_counter_ns())
        await asyncio.sleep(seconds * _WARM_UP_PART)
        self._latencies_ns.clear()
        acked, delivered = self._acked, self._delivered
        meter = Meter(self._server)
        await asyncio.sleep(seconds)
        sent, delivery = meter.stop(self._acked - acked), meter.stop(self._delivered - delivered)
        latency = percentiles(self._latencies_ns)
        self._next = {}
        await self._await_answers()
        return with_latency(sent, latency), with_latency(delivery, latency)

    async def open_loop(self, rate: float, seconds: float) -> Stage:
        """Send `rate` messages a second, the places in turn, whether or not earlier ones were answered."""
        await self._pace(rate, seconds * _WARM_UP_PART)
        self._latencies_ns.clear()
        acked = self._acked
        meter = Meter(self._server)
        await self._pace(rate, seconds)
        stage = meter.stop(self._acked - acked)
        await self._await_answers()
        return with_latency(stage, percentiles(self._latencies_ns))

    async def _pace(self, rate: float, seconds: float) -> None:
        started, interval_ns = time.perf_counter_ns(), 1e9 / rate
        for k in range(int(rate * seconds)):
            due = started + int(k * interval_ns)
            if due > (now_ns := time.perf_counter_ns()):
                await asyncio.sleep(max(_PACE_S, (due - now_ns) / 1e9))
            self._send(*self._places[k % len(self._places)], due)

    async def _await_answers(self) -> None:
        """Wait for the answers under way, so that they do not disturb the next stage."""
        until = time.perf_counter() + _STRAGGLERS_S
        while self._acked < self._sent and not self._odd:
            if time.perf_counter() > until:
                raise LoadError(f"{self._sent - self._acked} of {self._sent} sends were not acked")
            await asyncio.sleep(_PACE_S)
        if self._odd:
            raise LoadError(f"{len(self._odd)} messages that are neither acks nor events, first: {self._odd[0]}")

    def _send(self, client: LeanClient, dialog: bytes, stamp_ns: int) -> None:
        self._sent += 1
        client.send(Send(1, dialog, client.next_n(), stamp_ns.to_bytes(_STAMP_BYTES, "big") + _FILLER))

    def receive(self, client: LeanClient, message: bytes) -> None:
        """Take a message that has come to a listener."""
        tag = message[_TAG_AT]
        if tag == _EVENT:
            self._delivered += 1
            if client in self._timed:
                self._time(client, message)
        elif tag == _ACKED:
            self._acked += 1
            if (dialog := self._next.get(client)) is not None:
                self._send(client, dialog, time.perf_counter_ns())
        elif tag != _HEARTBEAT:  # a new position comes every few seconds
            self._odd.append(type(MSGPACK.decode_server(message)).__name__)

    def _time(self, client: LeanClient, message: bytes) -> None:
        now_ns = time.perf_counter_ns()
        event = MSGPACK.decode_server(message)
        assert isinstance(event, TimelineEvent)
        if event.author != client.principal and isinstance(event.body, Posted):
            self._latencies_ns.append(now_ns - int.from_bytes(event.body.payload[:_STAMP_BYTES], "big"))


def with_latency(stage: Stage, latency: Latency | None) -> Stage:
    """The stage with the latencies of its messages."""
    return Stage(stage.seconds, stage.done, stage.usage, stage.load_s, latency)
