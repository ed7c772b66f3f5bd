"""One websocket after its handshake: delivers whole messages to its peer, and writes frames with back-pressure.

A `Connection` has no task; while it is idle it has no parser and no buffer. Invariants:

- The peer gets whole messages only, text checked as UTF-8, and none after `close`, `abort` or `closed`.
- `closed` is called exactly once, however the connection ends, and nothing is called after it.
- An exception of the peer closes this connection only, with 1011, and is logged once.
- A close ends within `close_timeout_s`, whether the client answers, stalls or keeps sending.
- The work of one turn of the loop is bounded: after `_FRAMES_PER_TURN` frames the other connections have their turn.
- Frames that are no messages (pings, fragments) have a rate. A client that has not authenticated is a stranger: it may
  send `unauthenticated_bytes_max` in all, and is disconnected when as much waits to be sent to it.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from protocol.close_codes import CloseCode
from server.config.settings import GatewaySettings
from server.gateway import frames
from server.token_bucket import take_tokens

_log = logging.getLogger(__name__)

_FRAMES_PER_TURN = 100
_CLOSING_BYTES_MAX = 1_048_576
"""What a client that is signed in may send until it has read our close: what it had sent before, and no flood."""
_RARE_FRAMES_BURST_S = 10.0


class Peer(Protocol):
    """What gets the messages of a websocket. Its methods are events, named in the way of `asyncio.Protocol`."""

    def received(self, data: bytes, text: bool) -> None:
        """A whole message has arrived."""
        ...

    def writable(self) -> None:
        """The write buffer has drained: `Connection.paused` was true, and is false again."""
        ...

    def closed(self) -> None:
        """The connection has ended; called once, and last."""
        ...


class Timers(Protocol):
    """The part of an event loop that a connection uses; tests pass their own."""

    def call_later(self, delay: float, callback: Callable[[], object], /) -> asyncio.TimerHandle:
        """Call back after `delay` seconds."""
        ...

    def call_soon(self, callback: Callable[[], object], /) -> asyncio.Handle:
        """Call back in the next iteration of the loop."""
        ...

    def time(self) -> float:
        """Monotonic seconds."""
        ...


class Connection(asyncio.Protocol):
    """One open websocket on one TCP connection."""

    __slots__ = (
        "_allowance",
        "_buffer",
        "_closing",
        "_ended",
        "_lost",
        "_peer",
        "_rare_full_at",
        "_reading_paused",
        "_settings",
        "_slow_path",
        "_timer",
        "_timers",
        "_transport",
        "_yielded",
        "address",
        "close_code",
        "paused",
        "subprotocol",
        "trusted",
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
        """The client's own address, behind trusted proxies, too."""
        self.subprotocol = subprotocol
        """The one agreed in the handshake; empty if this port has none."""
        self.trusted = False
        """Whether the client has authenticated."""
        self.close_code = 0
        """The code with which this side has closed it; 0 if it has not."""
        self.paused = False
        """Whether more bytes wait to be sent than the transport's high-water mark."""
        self._transport = transport
        self._settings = settings
        self._timers = timers
        self._lost = lost
        self._peer: Peer | None = None
        self._slow_path: frames.SlowPathParser | None = None
        self._buffer: bytes | bytearray = b""  # starts at the first byte of a frame
        self._timer: asyncio.TimerHandle | None = None  # set once the connection is closing
        self._closing = False  # a close frame is sent, or the transport is closed: nothing more is written
        self._ended = False  # nothing more is read
        self._reading_paused = False  # the peer has paused reading
        self._yielded = False  # the rest of the buffer is for the next turn of the loop
        self._allowance: int | None = settings.unauthenticated_bytes_max  # bytes that may still arrive; None: any
        self._rare_full_at = 0.0  # the bucket of frames that are no messages
        self._limit_writes(settings.unauthenticated_bytes_max)

    def start(self, peer_factory: "PeerFactory") -> None:
        """Create the peer. Called once, after the response to the handshake is written."""
        try:
            self._peer = peer_factory(self)
        except Exception:  # noqa: BLE001 - a failing peer must not harm other connections
            self._crashed("could not be created")

    # -- what the peer calls

    def trust(self) -> None:
        """The client has authenticated: the limits of a stranger end."""
        if not self.trusted:
            self.trusted = True
            self._limit_writes(self._settings.write_high_water_bytes)
            if not self._closing:
                self._allowance = None

    def write(self, data: bytes) -> None:
        """Send whole frames, already encoded and joined; dropped if the connection is closing."""
        if not self._closing:
            self._transport.write(data)

    def close(self, code: int, reason: str) -> None:
        """Send a close frame; end the TCP connection when the client answers it, or after `close_timeout_s`."""
        if self._closing:
            return
        if not self.trusted:
            self._fail(code, reason)  # of a stranger nothing more is read, not even the answer
            return
        self.close_code = code
        self._open_slow_path().close(code, reason)
        self._begin_end()
        self.resume_reading()  # the client's close frame may be unread because of the pause

    def abort(self) -> None:
        """End the TCP connection now."""
        self._closing = self._ended = True
        self._transport.abort()

    def pause_reading(self) -> None:
        """Deliver nothing and read nothing until `resume_reading`. At most one segment stays in the buffer."""
        if not self._reading_paused and not self._closing:
            self._reading_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Undo `pause_reading`; what is in the buffer is delivered in the next iteration of the loop."""
        if self._reading_paused:
            self._reading_paused = False
            self._yield_turn()

    # -- what the event loop calls

    def data_received(self, data: bytes) -> None:
        """Take bytes as they arrive, split anywhere."""
        if self._allowance is not None:
            self._allowance -= len(data)
            if self._allowance < 0:
                self._overrun()
                return
        if self._buffer:
            assert isinstance(self._buffer, bytearray)
            self._buffer += data
            self._take_buffer()
            return
        at = self._take(data)
        if at < len(data):
            self._buffer = bytearray(data[at:])

    def eof_received(self) -> None:
        """Let the transport close itself, with a time limit: the client may never read what is still to be sent."""
        self._begin_end()

    def pause_writing(self) -> None:
        """Note that the write buffer is above its high-water mark. A stranger who does not read is disconnected."""
        self.paused = True
        if not self.trusted:
            self.abort()

    def resume_writing(self) -> None:
        """Notify the peer that the write buffer has drained."""
        self.paused = False
        if self._peer is not None and not self._closing:
            try:
                self._peer.writable()
            except Exception:  # noqa: BLE001 - a failing peer must not harm other connections
                self._crashed("failed in writable()")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the reason does not matter
        """Release everything and notify the peer."""
        self._closing = self._ended = True
        if self._timer is not None:
            self._timer.cancel()
        self._slow_path, self._buffer, self._timer = None, b"", None
        peer, self._peer = self._peer, None
        self._lost(self)
        if peer is not None:
            try:
                peer.closed()
            except Exception:  # noqa: BLE001 - a failing peer must not harm other connections
                _log.exception("a peer failed in closed()", extra={"address": self.address})

    # -- reading

    def _take(self, data: bytes | bytearray) -> int:
        """Deliver whole messages, as many as one turn allows. Return how many bytes of the data are processed."""
        at, size, bytes_max = 0, len(data), self._settings.message_bytes_max
        frames_left = _FRAMES_PER_TURN
        while at < size:
            if self._ended:
                return size
            if self._reading_paused:
                return at
            if not frames_left:
                self._yield_turn()
                return at
            frames_left -= 1
            if self._slow_path is None and (common := frames.parse_common_frame(data, at, bytes_max)) is not None:
                at, payload, text = common
                self._deliver(payload, text)
            elif (end := self._take_rare(data, at)) is not None:
                at = end
            else:
                return at
        return size

    def _take_buffer(self) -> None:
        buffer = self._buffer
        assert isinstance(buffer, bytearray)
        at = self._take(buffer)
        if at == len(buffer):
            self._buffer = b""
        else:
            del buffer[:at]

    def _take_rare(self, data: bytes | bytearray, at: int) -> int | None:
        """Take a frame that is not a whole message. Return its end, None while it is incomplete."""
        control = frames.parse_ping_or_pong(data, at)
        if control is not None:
            end, ping = control
            if self._afford_rare() and ping is not None and not self.paused and not self._transport.is_closing():
                # A client that pings without reading gets no more pongs: an endpoint may answer only the most recent
                # ping (RFC 6455, section 5.5.3).
                self._transport.write(frames.encode(frames.PONG, ping))
            return end
        gathered = 0 if self._slow_path is None else self._slow_path.gathered
        frame_end = frames.find_frame_end(data, at, self._settings.message_bytes_max, gathered)
        if frame_end is None or (self._closing and data[at] & 0x0F != frames.CLOSE):
            return frame_end  # after our close only the client's matters
        if self._afford_rare():
            self._feed_slow_path(data[at:frame_end])
        return frame_end

    def _afford_rare(self) -> bool:
        """Charge a frame that is not a whole message; otherwise the connection has been closed."""
        per_s = self._settings.rare_frames_per_s
        burst = max(1.0, per_s * _RARE_FRAMES_BURST_S)
        wait_s, self._rare_full_at = take_tokens(
            self._rare_full_at, self._timers.time(), interval_s=1.0 / per_s, burst=burst
        )
        if wait_s > 0:
            self._fail(CloseCode.RATE_LIMITED, "too many pings or fragments")
        return not wait_s

    def _feed_slow_path(self, frame: bytes | bytearray) -> None:
        slow_path = self._open_slow_path()
        message = slow_path.feed(frame)
        if slow_path.idle:
            self._slow_path = None
        if slow_path.ended:
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
        except Exception:  # noqa: BLE001 - a failing peer must not harm other connections
            self._crashed("failed in received()")

    def _yield_turn(self) -> None:
        """Read no further in this turn of the loop; go on with the buffer in the next."""
        if not self._yielded:
            self._yielded = True
            self._transport.pause_reading()
            self._timers.call_soon(self._continue)

    def _continue(self) -> None:
        self._yielded = False
        if self._buffer and not self._reading_paused:
            self._take_buffer()
        if not self._yielded and not self._reading_paused and not self._transport.is_closing():
            self._transport.resume_reading()

    def _open_slow_path(self) -> frames.SlowPathParser:
        if self._slow_path is None:
            self._slow_path = frames.SlowPathParser(self._settings.message_bytes_max, self._write_slow_path)
        return self._slow_path

    def _write_slow_path(self, frame: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(frame)

    def _limit_writes(self, high: int) -> None:
        self._transport.set_write_buffer_limits(high=high, low=high // 4)

    # -- ending

    def _crashed(self, what: str) -> None:
        _log.exception("a peer %s", what, extra={"address": self.address})
        self.close(CloseCode.INTERNAL_ERROR, "internal error")

    def _overrun(self) -> None:
        """More has arrived than a stranger may send, or than a client may that is being closed."""
        if self._closing:
            self.abort()
        else:
            self._buffer = b""
            self._fail(CloseCode.RATE_LIMITED, "too much was sent before authentication")

    def _fail(self, code: int, reason: str) -> None:
        """Close because of an error of the client; nothing after it is read."""
        if not self._closing:
            self.close_code = code
            self._transport.write(frames.encode_close(code, reason))
        self._end()

    def _end(self) -> None:
        """Half-close: a full close with unread bytes would reset the connection, and our close frame would be lost."""
        self._ended = True
        self._slow_path = None
        self._begin_end()
        self.resume_reading()  # what still comes is dropped
        if not self._transport.is_closing():
            try:
                self._transport.write_eof()
            except OSError:  # the client has already reset the connection
                self._transport.abort()

    def _begin_end(self) -> None:
        self._closing = True
        if self._timer is None:
            self._allowance = _CLOSING_BYTES_MAX if self.trusted else self._settings.unauthenticated_bytes_max
            self._timer = self._timers.call_later(self._settings.close_timeout_s, self._transport.abort)


PeerFactory = Callable[[Connection], Peer]
"""Creates the peer of a connection whose handshake is done."""
