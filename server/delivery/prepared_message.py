"""One message for many connections: its websocket frame is encoded once per codec, when first needed."""

from __future__ import annotations

import msgspec

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


def encode_frame(message: msgspec.Struct, *, text: bool) -> bytes:
    """The websocket frame of one message."""
    if text:
        return frames.encode(frames.TEXT, JSON.encode(message))
    return frames.encode(frames.BINARY, MSGPACK.encode(message))
