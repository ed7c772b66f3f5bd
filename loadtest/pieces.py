"""What the bytes that come from a server say, as little of it as a check needs, without an object for each delivery.

The members of a room get the same bytes at the same time, and read them in the same pieces. So what a piece says is
kept for a moment, by its bytes: the first member that reads it parses it, the others look it up.

An event is a msgpack array: its tag, the dialog, `seq`, author, device, `n`, `at_ms`, `messages`, the body (see
`TimelineEventRaw`). The body of a message ends with its payload, `acting_for` and `requester`, which are null.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from loadtest.lean_client import BINARY
from protocol.bodies import TimelineEvent, tag_of
from protocol.ids import ID_BYTES

_ID_HEAD = bytes((0xC4, ID_BYTES))
_EVENT_HEAD = bytes((0x99, tag_of(TimelineEvent))) + _ID_HEAD
_NULLS = b"\xc0\xc0"
_from_bytes = int.from_bytes  # big-endian, as all of it is
_STAMP_BYTES = 8
_KEPT_MAX = 512
_KEPT_BYTES_MAX = 16 * 2**20
_KEPT_EACH_MIN = 128


class Streak(msgspec.Struct, frozen=True, gc=False):
    """Events of one dialog whose numbers follow on each other."""

    dialog: bytes
    first: int
    last: int


class Frame(msgspec.Struct, frozen=True, gc=False):
    """Anything but an event: the first byte of its frame, and its payload."""

    first: int
    payload: bytes


class Piece(msgspec.Struct, frozen=True, gc=False):
    """What a piece of a stream says; `size` is where its whole frames end.

    `stamps` has of each message of a load when it was due, in nanoseconds, and its author.
    """

    items: Sequence[Streak | Frame]
    events: int
    stamps: Sequence[tuple[int, bytes]]
    size: int


class Payload:
    """What a load writes into its messages: a stamp of 8 bytes, and the same filler in all."""

    def __init__(self, size: int) -> None:
        """`size` is that of the whole, from 24 bytes on."""
        self.size = size
        self._filler = (b"loadtest" * (size // 8))[: size - _STAMP_BYTES]

    def make(self, stamp_ns: int) -> bytes:
        """The payload of one message."""
        return stamp_ns.to_bytes(_STAMP_BYTES, "big") + self._filler

    def read(self, data: bytes, end: int) -> int | None:
        """The stamp of the event that ends here; None if it is not a message of the load."""
        start = end - len(_NULLS) - self.size
        if not data.startswith(_NULLS, end - len(_NULLS)) or not data.startswith(self._filler, start + _STAMP_BYTES):
            return None
        return int.from_bytes(data[start : start + _STAMP_BYTES], "big")


class PieceReader:
    """Parses pieces; `shared`: several clients get the same ones, so they are kept, within a bound."""

    def __init__(self, payload: Payload, *, shared: bool) -> None:
        self.parsed = 0
        self._payload = payload
        self._shared = shared
        self._kept: dict[bytes, Piece] = {}
        self._kept_bytes = 0

    def read(self, data: bytes) -> Piece:
        """What these bytes say."""
        if not self._shared or len(data) < _KEPT_EACH_MIN:
            return self._parse(data)
        piece = self._kept.get(data)
        if piece is None:
            if len(self._kept) >= _KEPT_MAX or self._kept_bytes > _KEPT_BYTES_MAX:
                self._kept, self._kept_bytes = {}, 0
            piece = self._kept[data] = self._parse(data)
            self._kept_bytes += len(data)
        return piece

    def _parse(self, data: bytes) -> Piece:
        self.parsed += 1
        items: list[Streak | Frame] = []
        stamps: list[tuple[int, bytes]] = []
        dialog, first, last = b"", 0, 0
        events = at = 0
        size = len(data)
        read_stamp = self._payload.read
        while size - at >= 2:
            length, start = data[at + 1], at + 2
            if length >= 126:
                start += 2 if length == 126 else 8
                length = _from_bytes(data[at + 2 : start])
            if (end := start + length) > size:
                break
            if data[at] == BINARY and data.startswith(_EVENT_HEAD, start):
                name = data[start + 4 : start + 20]
                seq, after = _read_number(data, start + 20)
                if seq != last + 1 or name != dialog:
                    if last:
                        items.append(Streak(dialog, first, last))
                    dialog, first = name, seq
                last = seq
                events += 1
                if (stamp := read_stamp(data, end)) is not None:
                    stamps.append((stamp, data[after + 2 : after + 18]))
            else:
                if last:
                    items.append(Streak(dialog, first, last))
                    last = 0
                items.append(Frame(data[at], data[start:end]))
            at = end
        if last:
            items.append(Streak(dialog, first, last))
        return Piece(items, events, stamps, at)


def _read_number(data: bytes, at: int) -> tuple[int, int]:
    """The whole number of msgpack here, and where it ends."""
    first = data[at]
    if first < 0x80:
        return first, at + 1
    end = at + 1 + (1 << (first - 0xCC))
    return int.from_bytes(data[at + 1 : end], "big"), end
