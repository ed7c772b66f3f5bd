"""Websocket frames as bytes (RFC 6455, section 5): encodes what is sent, parses what arrives.

Nearly every frame of a client is one whole message: FIN set, masked, text or binary, and small. `parse_common_frame`
parses such a frame in one short function, `parse_ping_or_pong` another. All other frames (fragments, closes, protocol
errors) go to `SlowPathParser`, which exists only while it is needed, so that an idle connection holds no parser.

Both must agree on where a frame ends: `find_frame_end` measures it, and `SlowPathParser` gets whole frames only. So
when a connection drops its `SlowPathParser`, the next byte is the first of a frame.
"""

import codecs
import logging
import struct
from collections.abc import Callable

from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side, State
from websockets.speedups import apply_mask

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

FIN = 0x80
MASKED = 0x80
_FIN_TEXT, _FIN_BINARY = FIN | TEXT, FIN | BINARY
_FIN_PING, _FIN_PONG = FIN | PING, FIN | PONG
_LENGTH_16, _LENGTH_64 = 126, 127
_CONTROL = 0x8
_OPCODES = frozenset((CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG))
_CLOSE_REASON_BYTES_MAX = 123

_pack_8 = struct.Struct("!BB").pack
_pack_16 = struct.Struct("!BBH").pack
_pack_64 = struct.Struct("!BBQ").pack
_unpack_16 = struct.Struct("!H").unpack_from
_unpack_64 = struct.Struct("!Q").unpack_from
_utf8_decoder = codecs.getincrementaldecoder("utf-8")

# The library logs every frame at DEBUG. Frames hold people's messages, so DEBUG must stay off.
_library_log = logging.getLogger(f"{__name__}.websockets")
_library_log.setLevel(logging.WARNING)


def encode(opcode: int, payload: bytes) -> bytes:
    """Encode a whole message as one server frame: FIN set, unmasked."""
    length = len(payload)
    if length < _LENGTH_16:
        return _pack_8(FIN | opcode, length) + payload
    if length < 1 << 16:
        return _pack_16(FIN | opcode, _LENGTH_16, length) + payload
    return _pack_64(FIN | opcode, _LENGTH_64, length) + payload


def parse_common_frame(data: bytes | bytearray, at: int, payload_bytes_max: int) -> tuple[int, bytes, bool] | None:
    """Parse the common frame that starts at `at`. Return its end, its payload (unmasked) and whether it is text.

    Return None if the frame is incomplete or not a common one; `find_frame_end` says which.
    """
    available = len(data) - at
    if available < 6:
        return None
    first = data[at]
    if first not in (_FIN_BINARY, _FIN_TEXT):
        return None
    length = data[at + 1] - MASKED
    start = at + 6
    if length >= _LENGTH_16:
        if length == _LENGTH_16 and available >= 8:
            length, start = _unpack_16(data, at + 2)[0], at + 8
        elif length == _LENGTH_64 and available >= 14:
            length, start = _unpack_64(data, at + 2)[0], at + 14
        else:
            return None
    end = start + length
    if length < 0 or length > payload_bytes_max or end > len(data):
        return None
    return end, apply_mask(data[start:end], data[start - 4 : start]), first == _FIN_TEXT


def parse_ping_or_pong(data: bytes | bytearray, at: int) -> tuple[int, bytes | None] | None:
    """Parse the ping or pong that starts at `at`. Return its end, and of a ping the payload that the pong repeats.

    Return None for any other frame, and for one that is incomplete or an error.
    """
    available = len(data) - at
    if available < 6 or data[at] not in (_FIN_PING, _FIN_PONG):
        return None
    length = data[at + 1] - MASKED
    start = at + 6
    end = start + length
    if not 0 <= length < _LENGTH_16 or end > len(data):
        return None
    return end, apply_mask(data[start:end], data[start - 4 : start]) if data[at] == _FIN_PING else None


def find_frame_end(data: bytes | bytearray, at: int, message_bytes_max: int, gathered: int = 0) -> int | None:
    """Find the end of the frame that starts at `at`; None while the frame is incomplete.

    `gathered` is the number of bytes in earlier fragments of its message. A frame whose header is already an error
    (unmasked, unknown opcode, too long) ends with the data: the connection reads nothing after it.
    """
    available = len(data) - at
    if available < 2:
        return None
    length = data[at + 1] - MASKED
    opcode = data[at] & 0x0F
    if length < 0 or opcode not in _OPCODES:
        return len(data)
    start = at + 6
    if length == _LENGTH_16:
        if available < 4:
            return None
        length, start = _unpack_16(data, at + 2)[0], at + 8
    elif length == _LENGTH_64:
        if available < 10:
            return None
        length, start = _unpack_64(data, at + 2)[0], at + 14
    if length > message_bytes_max - (0 if opcode & _CONTROL else gathered):
        return len(data)
    end: int = start + length
    return end if end <= len(data) else None


def is_utf8(payload: bytes) -> bool:
    """Whether a text message may be delivered (RFC 6455, section 8.1)."""
    if payload.isascii():
        return True
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


def encode_close(code: int, reason: str) -> bytes:
    """Encode a close frame; the reason is shortened if need be."""
    return encode(CLOSE, code.to_bytes(2, "big") + fit_reason(reason).encode())


def fit_reason(reason: str) -> str:
    """Shorten the reason of a close frame to whole characters in 123 bytes, the room in a control frame."""
    return reason.encode()[:_CLOSE_REASON_BYTES_MAX].decode(errors="ignore")


class SlowPathParser:
    """Parses the frames that the short functions do not: fragments, closes and errors, using `websockets`.

    Create it between two frames; drop it once `idle`. When `ended` is true, a close frame has been sent (as an answer,
    or because of an error): write nothing more, and ignore all further input.
    """

    __slots__ = ("_decoder", "_message", "_message_bytes_max", "_protocol", "_send", "_text", "ended")

    def __init__(self, message_bytes_max: int, send: Callable[[bytes], None]) -> None:
        """`send` writes a frame."""
        self._message_bytes_max = message_bytes_max
        self._protocol = self._new_protocol()
        self._send = send
        self._message: bytearray | None = None  # fragments, joined: in a list, empty fragments would take memory
        self._text = False
        self._decoder: codecs.IncrementalDecoder | None = None
        self.ended = False

    @property
    def idle(self) -> bool:
        """Whether the connection is open and between messages, so that this object can be dropped."""
        return self._message is None and self._protocol.state is State.OPEN

    @property
    def gathered(self) -> int:
        """Bytes of the unfinished message."""
        return 0 if self._message is None else len(self._message)

    def feed(self, frame: bytes | bytearray) -> tuple[bytes, bool] | None:
        """Parse one whole frame. Return the message that it completes, if any, and whether that is text."""
        if frame[0] & _CONTROL and self._message is not None and self._protocol.state is State.OPEN:
            self._feed_between_fragments(frame)
            return None
        self._protocol.receive_data(frame)
        message = None
        for event in self._protocol.events_received():
            assert isinstance(event, Frame)
            if event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                message = self._fragment(event)
        self._flush()
        return message

    def close(self, code: int, reason: str) -> None:
        """Send a close frame, and wait for the client's."""
        self._protocol.send_close(code, fit_reason(reason))
        self._flush()

    def _feed_between_fragments(self, frame: bytes | bytearray) -> None:
        """Parse a control frame between two fragments with a protocol object of its own.

        Such frames are allowed (RFC 6455, section 5.4), but the library adds their size to that of the unfinished
        message, and takes a close for an error.
        """
        protocol, self._protocol = self._protocol, self._new_protocol()
        self._protocol.receive_data(frame)
        self._flush()
        if self._protocol.state is State.OPEN:
            self._protocol = protocol

    def _new_protocol(self) -> Protocol:
        return Protocol(Side.SERVER, state=State.OPEN, max_size=self._message_bytes_max, logger=_library_log)

    def _fragment(self, frame: Frame) -> tuple[bytes, bool] | None:
        if self._message is None:
            self._message = bytearray()
            self._text = frame.opcode is Opcode.TEXT
            self._decoder = _utf8_decoder() if self._text else None
        self._message += frame.data
        if self._decoder is not None:
            try:
                self._decoder.decode(frame.data, final=frame.fin)
            except UnicodeDecodeError:
                self._protocol.fail(1007, "text is not UTF-8")
                return None
        if not frame.fin:
            return None
        message, self._message, self._decoder = bytes(self._message), None, None
        return message, self._text

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._send(data)
            else:  # how the library says that nothing more will be sent
                self.ended = True
