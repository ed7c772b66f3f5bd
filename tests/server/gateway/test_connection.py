"""One websocket, without sockets: messages, back-pressure, and every way to end."""

import logging
from typing import Any

import pytest

from protocol.close_codes import CloseCode
from server.config.settings import GatewaySettings
from server.gateway import frames
from server.gateway.connection import Connection
from server.gateway.frames import BINARY, CLOSE, CONTINUATION, PONG, TEXT
from tests.support.fake_network import (
    FakeTimers,
    FakeTransport,
    RecordingPeer,
    client_frame,
    ping,
    pong_of,
    text,
)

SETTINGS = GatewaySettings(
    message_bytes_max=1000,
    write_high_water_bytes=8000,
    close_timeout_s=5.0,
    rare_frames_per_s=50.0,
    unauthenticated_bytes_max=4000,
)


class Wire:
    """A connection with everything around it; its client has authenticated unless it is a `stranger`."""

    def __init__(self, *, stranger: bool = False) -> None:
        self.transport = FakeTransport()
        self.timers = FakeTimers()
        self.lost: list[Connection] = []
        self.connection = Connection(
            self.transport, SETTINGS, self.timers, address="192.0.2.1", subprotocol="s", lost=self.lost.append
        )
        self.peer = RecordingPeer(self.connection)
        self.connection.start(lambda _: self.peer)
        if not stranger:
            self.connection.trust()

    def feed(self, *data: bytes) -> None:
        for part in data:
            self.connection.data_received(part)

    def close_code(self) -> int:
        """The code of the close frame that is all that was sent."""
        sent = self.transport.take()
        assert sent[0] == 0x80 | CLOSE
        assert len(sent) == 2 + sent[1]
        return int.from_bytes(sent[2:4], "big")


@pytest.fixture
def wire() -> Wire:
    return Wire()


def test_write_buffer_limits_are_set(wire: Wire) -> None:
    assert wire.transport.events == ["limits 4000 1000", "limits 8000 2000"]


def test_many_frames_in_one_segment_arrive_in_order(wire: Wire) -> None:
    wire.feed(b"".join(text(str(number)) for number in range(100)))
    assert wire.peer.messages == [(str(number).encode(), True) for number in range(100)]


def test_messages_may_arrive_one_byte_at_a_time(wire: Wire) -> None:
    stream = text("a") + ping(b"p") + client_frame(BINARY, bytes(300)) + client_frame(TEXT, b"x", fin=False)
    stream += client_frame(CONTINUATION, b"y") + text("z")
    wire.feed(*(bytes((byte,)) for byte in stream))
    assert wire.peer.messages == [(b"a", True), (bytes(300), False), (b"xy", True), (b"z", True)]
    assert wire.transport.take() == pong_of(b"p")


def test_an_idle_connection_holds_no_parser_and_no_buffer(wire: Wire) -> None:
    wire.feed(text("a")[:3])
    wire.feed(text("a")[3:] + ping() + client_frame(TEXT, fin=False) + client_frame(CONTINUATION))
    assert wire.connection._slow_path is None
    assert wire.connection._buffer == b""


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (text("a") + b"\x81\x05hello", 1002),
        (client_frame(TEXT, b"x", rsv=0x40), 1002),
        (client_frame(TEXT, b"\xff"), 1007),
        (client_frame(BINARY, bytes(1001)), 1009),
        (client_frame(BINARY, bytes(1001))[:4], 1009),
        (client_frame(BINARY, bytes(900), fin=False) + client_frame(CONTINUATION, bytes(101)), 1009),
    ],
    ids=["unmasked", "compressed", "not utf-8", "too big", "too big by its header", "too big together"],
)
def test_bad_input_is_answered_with_its_code_and_nothing_after_it_is_read(wire: Wire, data: bytes, code: int) -> None:
    wire.feed(data + text("never"), text("never"))
    assert wire.close_code() == code
    assert (b"never", True) not in wire.peer.messages
    assert wire.transport.events[-1] == "eof"
    assert wire.transport.reading, "further input is read and dropped, so that the client can read our close frame"


def test_a_client_that_ignores_the_close_is_disconnected(wire: Wire) -> None:
    wire.feed(client_frame(TEXT, b"\xff"))
    wire.timers.fire()
    assert wire.transport.events[-1] == "abort"


def test_a_reset_before_the_half_close_is_not_an_error(wire: Wire) -> None:
    wire.transport.reset_by_client = True
    wire.feed(client_frame(CLOSE))
    assert wire.transport.events[-1] == "abort"


def test_the_clients_close_is_answered_and_the_peer_notified_once(wire: Wire) -> None:
    wire.feed(client_frame(CLOSE, b"\x03\xe9bye"))
    assert wire.close_code() == 1001
    assert wire.transport.events[-1] == "eof"
    assert wire.peer.events == []
    wire.connection.connection_lost(None)
    assert wire.peer.events == ["closed"]
    assert wire.lost == [wire.connection]
    assert wire.timers.later[0].cancelled


def test_our_close_waits_for_the_clients(wire: Wire) -> None:
    wire.connection.close(4000, "draining" * 50)
    assert wire.close_code() == 4000
    wire.feed(text("late") + ping(b"p"))
    assert wire.peer.messages == []
    assert wire.transport.take() == pong_of(b"p")
    wire.feed(client_frame(CLOSE, b"\x0f\xa0"))
    assert wire.transport.take() == b""
    assert wire.transport.events[-1] == "eof"


def test_our_close_ends_after_the_timeout_if_the_client_does_not_answer(wire: Wire) -> None:
    wire.connection.close(4000, "")
    assert [timer.delay for timer in wire.timers.later] == [5.0]
    wire.timers.fire()
    assert wire.transport.events[-1] == "abort"


def test_close_between_fragments_finds_the_clients_close(wire: Wire) -> None:
    wire.feed(client_frame(TEXT, b"x", fin=False), text("y")[:4])
    wire.connection.close(1001, "")
    wire.transport.take()
    wire.feed(text("y")[4:], client_frame(CLOSE, b"\x03\xe9"))
    assert wire.transport.events[-1] == "eof"
    assert wire.peer.messages == []


def test_after_close_nothing_is_written_and_a_second_close_does_nothing(wire: Wire) -> None:
    wire.connection.close(4000, "")
    wire.transport.take()
    wire.connection.write(frames.encode(TEXT, b"late"))
    wire.connection.close(4001, "")
    assert wire.transport.take() == b""


def test_close_from_within_a_message_stops_the_rest_of_the_segment(wire: Wire) -> None:
    wire.peer.on_message = lambda _: wire.connection.close(4000, "")
    wire.feed(text("1") + text("2") + client_frame(CLOSE, b"\x0f\xa0") + text("3"))
    assert wire.peer.messages == [(b"1", True)]
    assert wire.transport.events[-1] == "eof"


def test_abort_from_within_a_message_reads_no_further(wire: Wire) -> None:
    wire.peer.on_message = lambda _: wire.connection.abort()
    wire.feed(text("1") + text("2"))
    assert wire.peer.messages == [(b"1", True)]
    assert wire.transport.take() == b""


@pytest.mark.parametrize("where", ["received", "writable"])
def test_a_peer_that_raises_closes_its_own_connection_and_is_logged_once(
    wire: Wire, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    wire.peer.raises_in = where
    wire.connection.pause_writing()
    wire.connection.resume_writing()
    wire.feed(text("1") + text("2"))
    wire.connection.pause_writing()
    wire.connection.resume_writing()
    assert wire.close_code() == 1011
    assert len(wire.peer.messages) <= 1
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_a_peer_that_raises_at_the_end_is_logged_too(wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    wire.peer.raises_in = "closed"
    wire.connection.connection_lost(None)
    assert wire.lost == [wire.connection]
    assert len(caplog.records) == 1


def test_a_peer_that_cannot_be_created_closes_with_1011(caplog: pytest.LogCaptureFixture) -> None:
    wire = Wire()

    def refuse(_: Connection) -> RecordingPeer:
        raise RuntimeError("no")

    connection = Connection(wire.transport, SETTINGS, wire.timers, address="a", subprotocol="", lost=wire.lost.append)
    connection.start(refuse)
    assert wire.close_code() == 1011
    connection.data_received(text("x"))
    connection.connection_lost(None)
    assert wire.lost == [connection]
    assert len(caplog.records) == 1


def test_a_pause_keeps_the_rest_of_the_segment(wire: Wire) -> None:
    wire.peer.on_message = lambda _: wire.connection.pause_reading()
    wire.feed(text("1") + text("2") + text("3")[:4])
    assert wire.peer.messages == [(b"1", True)]
    assert not wire.transport.reading
    wire.connection.resume_reading()
    wire.timers.turn()
    assert wire.peer.messages == [(b"1", True), (b"2", True)]
    wire.connection.resume_reading()
    wire.feed(text("3")[4:])
    wire.timers.turn()
    assert [data for data, _ in wire.peer.messages] == [b"1", b"2", b"3"]


def test_resuming_within_the_message_that_paused_loses_and_repeats_nothing(wire: Wire) -> None:
    def pause_and_resume(_: bytes) -> None:
        wire.connection.pause_reading()
        wire.connection.resume_reading()

    wire.peer.on_message = pause_and_resume
    wire.feed(text("1") + text("2"))
    wire.timers.turn()
    assert [data for data, _ in wire.peer.messages] == [b"1", b"2"]
    assert wire.transport.reading


def test_close_while_reading_is_paused_still_finds_the_clients_close(wire: Wire) -> None:
    wire.peer.on_message = lambda _: wire.connection.pause_reading()
    wire.feed(text("1") + client_frame(CLOSE, b"\x03\xe8"))
    wire.connection.close(4000, "")
    wire.timers.turn()
    assert wire.transport.reading
    assert wire.transport.events[-1] == "eof"


def test_a_full_write_buffer_is_seen_and_the_peer_notified_when_it_drains(wire: Wire) -> None:
    seen = [wire.connection.paused]
    wire.connection.pause_writing()
    seen.append(wire.connection.paused)
    wire.connection.resume_writing()
    assert [*seen, wire.connection.paused] == [False, True, False]
    assert wire.peer.events == ["writable"]


def test_a_client_that_pings_without_reading_gets_no_more_pongs(wire: Wire) -> None:
    wire.connection.pause_writing()
    wire.feed(ping(b"1") * 99)
    assert wire.transport.take() == b""
    wire.connection.resume_writing()
    wire.feed(ping(b"2"))
    assert wire.transport.take() == pong_of(b"2")


def test_the_end_of_the_stream_without_a_close_is_bounded(wire: Wire) -> None:
    wire.connection.eof_received()
    wire.connection.write(b"x")
    assert wire.transport.take() == b""
    wire.timers.fire()
    assert wire.transport.events[-1] == "abort"


def test_nothing_is_called_after_the_end(wire: Wire) -> None:
    wire.connection.connection_lost(ConnectionResetError())
    wire.feed(text("late"))
    wire.connection.resume_writing()
    wire.connection.resume_reading()
    wire.connection.close(4000, "")
    wire.connection.write(b"x")
    assert wire.peer.events == ["closed"]
    assert wire.peer.messages == []
    assert wire.transport.take() == b""


def test_a_ping_between_fragments_is_answered_and_needs_no_parser_of_its_own(wire: Wire) -> None:
    wire.feed(client_frame(TEXT, b"x", fin=False))
    parser = wire.connection._slow_path
    wire.feed(ping(b"p"))
    assert wire.transport.take() == pong_of(b"p")
    assert wire.connection._slow_path is parser
    wire.feed(client_frame(CONTINUATION, b"y"))
    assert wire.peer.messages == [(b"xy", True)]


EMPTY_FRAGMENTS = client_frame(TEXT, b"", fin=False) + client_frame(CONTINUATION)


@pytest.mark.parametrize(
    ("fifty_frames"),
    [ping() * 50, client_frame(PONG) * 50, EMPTY_FRAGMENTS * 25],
    ids=["pings", "pongs", "empty fragments"],
)
@pytest.mark.parametrize("stranger", [True, False], ids=["before sign-in", "after it"])
def test_frames_that_are_no_messages_have_a_rate(fifty_frames: bytes, stranger: bool) -> None:
    wire = Wire(stranger=stranger)
    wire.feed(*[fifty_frames] * 10)
    wire.timers.now += 1.0
    wire.feed(fifty_frames)
    assert "eof" not in wire.transport.events
    wire.transport.take()
    wire.feed(ping())
    assert wire.close_code() == CloseCode.RATE_LIMITED
    assert wire.transport.events[-1] == "eof"


def test_ten_thousand_pings_in_one_segment_create_no_parser(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[frames.SlowPathParser] = []
    parser = frames.SlowPathParser

    def make(*args: Any) -> frames.SlowPathParser:
        made.append(parser(*args))
        return made[-1]

    monkeypatch.setattr(frames, "SlowPathParser", make)
    wire.feed(ping() * 10_000)
    for _ in range(200):
        wire.timers.turn()
    assert made == []


def test_after_a_hundred_frames_the_other_connections_have_their_turn(wire: Wire) -> None:
    wire.feed(b"".join(text(str(number)) for number in range(250)) + text("last")[:4])
    taken = [(len(wire.peer.messages), wire.transport.reading)]
    for _ in range(2):
        wire.timers.turn()
        taken.append((len(wire.peer.messages), wire.transport.reading))
    assert taken == [(100, False), (200, False), (250, True)]
    wire.feed(text("last")[4:])
    assert [data for data, _ in wire.peer.messages] == [*(str(number).encode() for number in range(250)), b"last"]


def test_a_pause_of_the_peer_outlasts_the_turn(wire: Wire) -> None:
    wire.feed(text("1") * 150)
    wire.connection.pause_reading()
    wire.timers.turn()
    assert (len(wire.peer.messages), wire.transport.reading) == (100, False)
    wire.connection.resume_reading()
    wire.timers.turn()
    assert (len(wire.peer.messages), wire.transport.reading) == (150, True)


def test_a_stranger_may_send_little() -> None:
    wire = Wire(stranger=True)
    wire.feed(*(client_frame(BINARY, bytes(900)) for _ in range(5)))
    assert len(wire.peer.messages) == 4
    assert wire.close_code() == CloseCode.RATE_LIMITED


def test_who_has_authenticated_may_send_on() -> None:
    wire = Wire(stranger=True)
    wire.feed(client_frame(BINARY, bytes(900)))
    wire.connection.trust()
    wire.feed(*(client_frame(BINARY, bytes(900)) for _ in range(10)))
    assert len(wire.peer.messages) == 11


def test_a_stranger_who_does_not_read_is_disconnected_at_once() -> None:
    wire = Wire(stranger=True)
    wire.connection.pause_writing()
    assert wire.transport.events[-1] == "abort"


@pytest.mark.parametrize(("stranger", "bytes_max"), [(True, 4000), (False, 1_048_576)])
def test_who_floods_while_being_closed_is_disconnected(stranger: bool, bytes_max: int) -> None:
    wire = Wire(stranger=stranger)
    wire.feed(client_frame(TEXT, b"\xff"))
    wire.feed(*(bytes(1000) for _ in range(bytes_max // 1000)))
    assert wire.transport.events[-1] == "eof"
    wire.feed(bytes(1000))
    assert wire.transport.events[-1] == "abort"


def test_of_a_stranger_nothing_is_read_after_our_close() -> None:
    wire = Wire(stranger=True)
    wire.connection.close(4400, "no")
    assert wire.close_code() == 4400
    assert wire.transport.events[-1] == "eof"
    wire.feed(ping() + text("late"))
    assert (wire.transport.take(), wire.peer.messages) == (b"", [])


def test_after_our_close_messages_are_skipped_without_a_parser(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    wire.connection.close(4000, "")
    fed: list[bytes] = []
    monkeypatch.setattr(frames.SlowPathParser, "feed", lambda _, frame: fed.append(bytes(frame)))
    wire.feed((text("late") + client_frame(TEXT, b"x", fin=False)) * 50 + client_frame(CLOSE, b"\x0f\xa0"))
    wire.timers.turn()
    assert fed == [client_frame(CLOSE, b"\x0f\xa0")]
