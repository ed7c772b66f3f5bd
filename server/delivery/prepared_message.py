"""Messages for many connections: their websocket frames are encoded once per codec, when first needed."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from protocol.bodies import TimelineEventRaw
from protocol.codec import JSON, MSGPACK
from server.gateway import frames


class PreparedMessage:
    """An event on its way to many outboxes."""

    __slots__ = ("_binary", "_message", "_text")

    def __init__(self, message: msgspec.Struct) -> None:
        self._message = message
        self._binary = b""
        self._text = b""

    def get_frame(self, text: bool) -> bytes:
        """The whole websocket frame in the binary or the text codec; the same object for everybody."""
        if text:
            if not self._text:
                self._text = encode_frame(self._message, text=True)
            return self._text
        if not self._binary:
            self._binary = encode_frame(self._message, text=False)
        return self._binary


class PreparedEvents:
    """Events of one dialog, in order, on their way to many outboxes: their frames are joined once, too."""

    __slots__ = ("_frames", "_joined", "events", "gathers")

    def __init__(self, events: Sequence[TimelineEventRaw], *, gathers: bool = False) -> None:
        """`gathers`: their writes may wait a little for more (`flush_turn.py`)."""
        self.events = events
        self.gathers = gathers
        self._frames: dict[bool, list[bytes]] = {}
        self._joined: dict[bool, bytes] = {}

    def get_frames(self, text: bool) -> list[bytes]:
        """The frame of each event in the binary or the text codec."""
        frames_ = self._frames.get(text)
        if frames_ is None:
            frames_ = self._frames[text] = [encode_frame(event, text=text) for event in self.events]
        return frames_

    def get_joined(self, text: bool) -> bytes:
        """The frames as one; the same object for everybody."""
        joined = self._joined.get(text)
        if joined is None:
            joined = self._joined[text] = b"".join(self.get_frames(text))  # of one it is that one: nothing is copied
        return joined

    def part(self, start: int, stop: int) -> PreparedEvents:
        """The events from one place to before another, with their frames as far as these are encoded."""
        if start <= 0 and stop >= len(self.events):
            return self
        part = PreparedEvents(self.events[start:stop], gathers=self.gathers)
        part._frames = {text: frames_[start:stop] for text, frames_ in self._frames.items()}
        return part


def encode_frame(message: msgspec.Struct, *, text: bool) -> bytes:
    """The websocket frame of one message."""
    if text:
        return frames.encode(frames.TEXT, JSON.encode(message))
    return frames.encode(frames.BINARY, MSGPACK.encode(message))
