"""A transport and timers that only record calls, a peer that records events, and the frames of a client."""

import asyncio
import struct
from collections.abc import Callable
from typing import Any, cast

from websockets.speedups import apply_mask

from server.gateway.connection import Connection
from server.gateway.frames import MASKED, PING, PONG, TEXT

MASK = b"\x01\x02\x03\x04"


def client_frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, masked: bool = True) -> bytes:
    """One frame as a client sends it; `rsv` is 0x40, 0x20 or 0x10 for the reserved bits."""
    first, length, mask_bit = (0x80 if fin else 0) | rsv | opcode, len(payload), MASKED if masked else 0
    if length < 126:
        head = struct.pack("!BB", first, mask_bit | length)
    elif length < 65536:
        head = struct.pack("!BBH", first, mask_bit | 126, length)
    else:
        head = struct.pack("!BBQ", first, mask_bit | 127, length)
    return head + MASK + apply_mask(payload, MASK) if masked else head + payload


def text(payload: str) -> bytes:
    return client_frame(TEXT, payload.encode())


def ping(payload: bytes = b"") -> bytes:
    return client_frame(PING, payload)


def pong_of(payload: bytes) -> bytes:
    return bytes((0x80 | PONG, len(payload))) + payload


class FakeTransport(asyncio.Transport):
    """Records calls and bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = bytearray()
        self.events: list[str] = []
        self.reading = True
        self.reset_by_client = False
        self._is_closing = False

    def write(self, data: "bytes | bytearray | memoryview[Any]") -> None:
        self.sent += data

    def write_eof(self) -> None:
        if self.reset_by_client:
            raise OSError(107, "Transport endpoint is not connected")
        self.events.append("eof")

    def close(self) -> None:
        self.events.append("close")
        self._is_closing = True

    def abort(self) -> None:
        self.events.append("abort")
        self._is_closing = True

    def is_closing(self) -> bool:
        return self._is_closing

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.events.append(f"limits {high} {low}")

    def take(self) -> bytes:
        """What has been sent since the last call."""
        sent, self.sent = bytes(self.sent), bytearray()
        return sent


class FakeTimer:
    """A scheduled call."""

    def __init__(self, delay: float, callback: Callable[[], object]) -> None:
        self.delay = delay
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeTimers:
    """The timers of a loop that does not run; the test fires them."""

    def __init__(self) -> None:
        self.later: list[FakeTimer] = []
        self.soon: list[Callable[[], object]] = []
        self.now = 0.0

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
        self.later.append(FakeTimer(delay, callback))
        return cast("asyncio.TimerHandle", self.later[-1])

    def call_soon(self, callback: Callable[[], object]) -> asyncio.Handle:
        self.soon.append(callback)
        return cast("asyncio.Handle", FakeTimer(0, callback))

    def turn(self) -> None:
        """Run the calls of the next iteration of the loop."""
        soon, self.soon = self.soon, []
        for callback in soon:
            callback()

    def fire(self) -> None:
        """Run all timers that are not cancelled."""
        later, self.later = self.later, []
        for timer in later:
            if not timer.cancelled:
                timer.callback()


class RecordingPeer:
    """Records messages and events; raises in the method that `raises_in` names."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.messages: list[tuple[bytes, bool]] = []
        self.events: list[str] = []
        self.on_message: Callable[[bytes], None] | None = None
        self.raises_in = ""

    def received(self, data: bytes, text: bool) -> None:
        self.messages.append((data, text))
        if self.raises_in == "received":
            raise RuntimeError("received")
        if self.on_message is not None:
            self.on_message(data)

    def writable(self) -> None:
        self.events.append("writable")
        if self.raises_in == "writable":
            raise RuntimeError("writable")

    def closed(self) -> None:
        self.events.append("closed")
        if self.raises_in == "closed":
            raise RuntimeError("closed")
