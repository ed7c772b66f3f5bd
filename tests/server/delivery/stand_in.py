"""A subscriber without a session: what is pushed to it is kept."""

from __future__ import annotations

from typing import Any

import msgspec

from protocol.close_codes import CloseCode
from protocol.codec import MSGPACK
from protocol.ids import new_id
from server.delivery.prepared_message import PreparedMessage
from server.gateway import frames


class StandIn:
    """A subscriber that is its own outbox."""

    def __init__(self, principal: bytes, *, device: bytes = b"", sign_in: bytes = b"") -> None:
        self.principal, self.device, self.sign_in = principal, device or new_id(), sign_in or new_id()
        self.outbox: Any = self
        self.pushed: list[msgspec.Struct] = []
        self.states: list[bytes] = []
        self.closed_with: list[tuple[CloseCode, str]] = []

    def push(self, message: msgspec.Struct) -> None:
        self.pushed.append(message)

    def push_state(self, _key: tuple[bytes, ...], prepared: PreparedMessage) -> None:
        self.states.append(prepared.get_frame(False))

    def close(self, code: CloseCode, reason: str = "") -> None:
        self.closed_with.append((code, reason))


def frame_of(message: msgspec.Struct) -> bytes:
    """The binary frame of a message, as a stand-in keeps it."""
    return frames.encode(frames.BINARY, MSGPACK.encode(message))
