"""Streams of bytes as a server sends them."""

import msgspec

from loadtest.pieces import Payload
from protocol.bodies import AnyBody, Header, Posted, TimelineEventRaw
from protocol.kinds import Kind
from protocol.replies import Acked
from server.gateway import frames

AUTHOR = b"A" * 16
DIALOG = b"D" * 16
PAYLOAD = Payload(40)


def message(seq: int, stamp: int = 7, *, dialog: bytes = DIALOG, author: bytes = AUTHOR) -> bytes:
    """The frame of a message of a load."""
    return event(seq, Posted(Kind.MESSAGE, Header(), PAYLOAD.make(stamp)), dialog=dialog, author=author)


def event(seq: int, body: AnyBody, *, dialog: bytes = DIALOG, author: bytes = AUTHOR) -> bytes:
    """The frame of any event."""
    raw = msgspec.Raw(msgspec.msgpack.encode(body))
    return frame(TimelineEventRaw(dialog, seq, author, b"d" * 16, seq, 1_700_000_000_000, seq, raw))


def ack(n: int, seq: int, *, request: int = 1, dialog: bytes = DIALOG) -> bytes:
    """The frame of an ack."""
    return frame(Acked(request, dialog, n, seq, 1_700_000_000_000, seq))


def frame(message: msgspec.Struct) -> bytes:
    """The frame of any message."""
    return frames.encode(frames.BINARY, msgspec.msgpack.encode(message))
