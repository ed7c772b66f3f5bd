"""One websocket after its handshake: bytes in, whole messages to the peer; bytes out, with back-pressure.

A `Connection` has no task, and while nothing arrives no parser and no buffer. Invariants:

- The peer gets whole messages only, text already checked as UTF-8, and none after `close`, `abort` or `closed`.
- `closed` is called exactly once, however the connection ended, and nothing is called after it.
- Whatever the peer raises closes this connection alone, with 1011, and is logged once.
- A close ends within `close_timeout_s`, whether the client answers, stalls or keeps sending.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from protocol.close_codes import CloseCode
from server.config.settings import GatewaySettings
from server.gateway import frames

_log = logging.getLogger(__name__)


class Peer(Protocol):
    """What sits behind a websocket: a session, or the echo of the frame tests."""

    def received(self, data: bytes, text: bool) -> None:
        """One whole message has arrived."""
        ...

    def writable(self) -> None:
        """The write buffer has drained after `Connection.paused` had become true."""
        ...

    def closed(self) -> None:
        """The connection is gone; called once and last."""
        ...


class Timers(Protocol):
    """The part of an event loop that a connection uses; a test may bring its own."""

    def call_later(self, delay: float, callback: Callable[[], object], /) -> asyncio.TimerHandle:
        """Call back after `delay` seconds."""
        ...

    def call_soon(self, callback: Callable[[], object], /) -> asyncio.Handle:
        """Call back in the next turn of the loop."""
        ...


class Connection(asyncio.Protocol):
    """One open websocket on one TCP connection."""

    __slots__ = (
        "_buffer",
        "_closing",
        "_ended",
        "_held",
        "_lost",
        "_peer",
        "_rare",
        "_settings",
        "_timer",
        "_timers",
        "_transport",
        "address",
        "paused",
        "subprotocol",
    )

    def __init__(
        self,
        transport: asyncio.Transport,
        settings: GatewaySettings,
        timers: Timers,
        *,
        address: str,
        subprotocol: str,
        lost: Callable[["Connection"], None],
    ) -> None:
        self.address = address
        """The client's own address, seen through trusted proxies."""
        self.subprotocol = subprotocol
        """The one agreed in the handshake; empty if none is offered here."""
        self.paused = False
        """Whether more than `write_high_water_bytes` wait to be sent."""
        self._transport = transport
        self._settings = settings
        self._timers = timers
        self._lost = lost
        self._peer: Peer | None = None
        self._rare: frames.SlowPathParser | None = None
        self._buffer: bytes | bytearray = b""  # begins at the first byte of a frame
        self._timer: asyncio.TimerHandle | None = None  # set once the end has begun
        self._closing = False  # a close frame has gone out, or the transport is closed: nothing more is written
        self._ended = False  # nothing more is read
        self._held = False  # the peer has paused reading
        high = settings.write_high_water_bytes
        transport.set_write_buffer_limits(high=high, low=high // 4)

    def start(self, peer_factory: "PeerFactory") -> None:
        """Create the peer. Called once, after the handshake's answer has been written."""
        try:
            self._peer = peer_factory(self)
        except Exception:  # noqa: BLE001 - whatever a peer raises stays with it
            self._crashed("could not be created")

    # -- what the peer calls

    def write(self, data: bytes) -> None:
        """Send whole frames, already encoded and joined. Dropped once the connection is closing."""
        if not self._closing:
            self._transport.write(data)

    def close(self, code: int, reason: str) -> None:
        """Send a close frame and end the TCP connection within `close_timeout_s`, politely if the client answers."""
        if self._closing:
            return
        self._rare_frames().close(code, reason)
        self._begin_end()
        self.resume_reading()  # the client's close frame may be waiting behind the pause

    def abort(self) -> None:
        """End the TCP connection now."""
        self._closing = self._ended = True
        self._transport.abort()

    def pause_reading(self) -> None:
        """Deliver nothing and read nothing until `resume_reading`. At most one segment is held back."""
        if not self._held and not self._closing:
            self._held = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Go on after `pause_reading`, in the next turn of the loop."""
        if self._held:
            self._held = False
            self._transport.resume_reading()
            self._timers.call_soon(self._resume)

    # -- what the event loop calls

    def data_received(self, data: bytes) -> None:
        """Take bytes as they come, cut anywhere."""
        if self._buffer:
            assert isinstance(self._buffer, bytearray)
            self._buffer += data
            self._take_buffer()
            return
        at = self._take(data)
        if at < len(data):
            self._buffer = bytearray(data[at:])

    def eof_received(self) -> None:
        """Let the transport close itself, but not wait for ever to send what the client will not read."""
        self._begin_end()

    def pause_writing(self) -> None:
        """Note that the write buffer is above its high-water mark."""
        self.paused = True

    def resume_writing(self) -> None:
        """Tell the peer that the write buffer has drained."""
        self.paused = False
        if self._peer is not None and not self._closing:
            try:
                self._peer.writable()
            except Exception:  # noqa: BLE001 - whatever a peer raises stays with it
                self._crashed("failed when it could write again")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why it ended does not matter
        """Release everything and tell the peer."""
        self._closing = self._ended = True
        if self._timer is not None:
            self._timer.cancel()
        self._rare, self._buffer, self._timer = None, b"", None
        peer, self._peer = self._peer, None
        self._lost(self)
        if peer is not None:
            try:
                peer.closed()
            except Exception:  # noqa: BLE001 - whatever a peer raises stays with it
                _log.exception("peer of %s failed when told of the end", self.address)

    # -- reading

    def _take(self, data: bytes | bytearray) -> int:
        """Deliver what is whole, and return how many bytes are done with."""
        at, size, bytes_max = 0, len(data), self._settings.message_bytes_max
        while at < size:
            if self._ended:
                return size
            if self._held:
                return at
            rare = self._rare
            if rare is None and (cut := frames.parse_common_frame(data, at, bytes_max)) is not None:
                at, payload, text = cut
                self._deliver(payload, text)
                continue
            end = frames.frame_end(data, at, bytes_max, 0 if rare is None else rare.gathered)
            if end is None:
                return at
            self._take_rare(data[at:end])
            at = end
        return size

    def _take_buffer(self) -> None:
        buffer = self._buffer
        assert isinstance(buffer, bytearray)
        at = self._take(buffer)
        if at == len(buffer):
            self._buffer = b""
        else:
            del buffer[:at]

    def _take_rare(self, frame: bytes | bytearray) -> None:
        rare = self._rare_frames()
        message = rare.feed(frame)
        if rare.idle:
            self._rare = None
        if rare.ended:
            self._end()
        elif message is not None:
            self._deliver(*message)

    def _deliver(self, payload: bytes, text: bool) -> None:
        if self._closing or self._peer is None:
            return
        if text and not frames.is_utf8(payload):
            self._fail(CloseCode.INVALID_TEXT, "text is not UTF-8")
            return
        try:
            self._peer.received(payload, text)
        except Exception:  # noqa: BLE001 - whatever a peer raises stays with it
            self._crashed("failed on a message")

    def _resume(self) -> None:
        if self._buffer and not self._held:
            self._take_buffer()

    def _rare_frames(self) -> frames.SlowPathParser:
        if self._rare is None:
            self._rare = frames.SlowPathParser(self._settings.message_bytes_max, self._write_rare)
        return self._rare

    def _write_rare(self, frame: bytes, pong: bool) -> None:
        # Who pings without reading gets no more pongs: only the newest ping needs one (RFC 6455, section 5.5.3).
        if not self._transport.is_closing() and not (pong and self.paused):
            self._transport.write(frame)

    # -- ending

    def _crashed(self, what: str) -> None:
        _log.exception("peer of %s %s", self.address, what)
        self.close(CloseCode.INTERNAL_ERROR, "internal error")

    def _fail(self, code: int, reason: str) -> None:
        """Close because of what the client sent: nothing after it is read."""
        self._rare_frames().fail(code, reason)
        self._end()

    def _end(self) -> None:
        """Half-close. Closing in full with unread bytes would reset the connection and lose our close frame."""
        self._ended = True
        self._rare = None
        self._begin_end()
        if not self._transport.is_closing():
            try:
                self._transport.write_eof()
            except OSError:  # the client has reset the connection already
                self._transport.abort()

    def _begin_end(self) -> None:
        self._closing = True
        if self._timer is None:
            self._timer = self._timers.call_later(self._settings.close_timeout_s, self._transport.abort)


PeerFactory = Callable[[Connection], Peer]
"""Makes the peer of a connection whose handshake is done."""
