"""Frames: the encoder, the parser of common frames, and the parser of the slow path."""

import pytest
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side, State

from server.gateway.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    SlowPathParser,
    encode,
    find_frame_end,
    fit_reason,
    parse_common_frame,
    parse_ping_or_pong,
)
from tests.support.fake_network import client_frame, ping, pong_of

LIMIT = 100_000
SIZES = [0, 1, 125, 126, 127, 65_535, 65_536]


class Written:
    """What a `SlowPathParser` has sent."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def __call__(self, frame: bytes) -> None:
        self.frames.append(frame)


def slow_path(message_bytes_max: int = LIMIT) -> tuple[SlowPathParser, Written]:
    written = Written()
    return SlowPathParser(message_bytes_max, written), written


def close_code(frame: bytes) -> int:
    assert frame[0] == 0x80 | CLOSE
    return int.from_bytes(frame[2:4], "big")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_client_reads_what_encode_makes(opcode: int, size: int) -> None:
    payload = b"x" * size
    client = Protocol(Side.CLIENT, state=State.OPEN)
    client.receive_data(encode(opcode, payload))
    assert client.events_received() == [Frame(Opcode(opcode), payload)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_common_frame_is_parsed_and_its_end_found(opcode: int, size: int) -> None:
    payload = bytes(range(256)) * (size // 256) + bytes(size % 256)
    frame = client_frame(opcode, payload)
    assert parse_common_frame(b"before" + frame + b"after", 6, LIMIT) == (6 + len(frame), payload, opcode == TEXT)
    assert parse_common_frame(bytearray(frame), 0, LIMIT) == (len(frame), payload, opcode == TEXT)
    assert find_frame_end(frame + b"after", 0, LIMIT) == len(frame)


@pytest.mark.parametrize("size", SIZES)
def test_an_incomplete_frame_is_not_parsed_and_has_no_end(size: int) -> None:
    frame = client_frame(BINARY, bytes(size))
    for end in {*range(15), len(frame) - 1} - {len(frame)}:
        if end < len(frame):
            assert parse_common_frame(frame[:end], 0, LIMIT) is None
            assert find_frame_end(frame[:end], 0, LIMIT) is None


@pytest.mark.parametrize(
    "frame",
    [
        client_frame(BINARY, b"x", fin=False),
        client_frame(CONTINUATION, b"x"),
        client_frame(PING),
        client_frame(CLOSE),
        client_frame(BINARY, b"x", rsv=0x40),
        client_frame(BINARY, b"xxxxxxxx", masked=False),
        client_frame(0x3, b"x"),
    ],
    ids=["fragment", "continuation", "ping", "close", "compressed", "unmasked", "unknown"],
)
def test_a_frame_of_the_slow_path_is_no_common_frame_but_has_an_end(frame: bytes) -> None:
    assert parse_common_frame(frame, 0, LIMIT) is None
    assert find_frame_end(frame, 0, LIMIT) == len(frame)


def test_a_frame_at_the_limit_is_common_and_one_byte_more_is_not() -> None:
    assert parse_common_frame(client_frame(BINARY, bytes(10)), 0, 10) is not None
    assert parse_common_frame(client_frame(BINARY, bytes(11)), 0, 10) is None


@pytest.mark.parametrize(
    "head",
    [b"\x82\x05", b"\x83\x80", b"\x82\xfe\xff\xff", b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff"],
    ids=["unmasked", "unknown opcode", "too long", "absurdly long"],
)
def test_a_frame_with_an_error_in_its_header_is_not_waited_for(head: bytes) -> None:
    assert find_frame_end(head, 0, 1000) == len(head)
    frames, written = slow_path(1000)
    assert frames.feed(head) is None
    assert frames.ended
    assert close_code(written.frames[0]) in (1002, 1009)


@pytest.mark.parametrize("payload", [b"", b"hello", bytes(125)])
def test_a_ping_or_pong_is_parsed_without_a_parser_object(payload: bytes) -> None:
    sent = b"before" + ping(payload)
    assert parse_ping_or_pong(sent + b"after", 6) == (len(sent), payload)
    assert parse_ping_or_pong(sent[:-1], 6) is None
    pong = client_frame(PONG, payload)
    assert parse_ping_or_pong(pong, 0) == (len(pong), None)


@pytest.mark.parametrize(
    "frame",
    [
        client_frame(PING, bytes(126)),
        client_frame(PING, fin=False),
        client_frame(PING, rsv=0x40),
        client_frame(PING, b"12345", masked=False),
        client_frame(CLOSE),
        client_frame(TEXT, b"12345"),
    ],
    ids=["too long", "a fragment", "a reserved bit", "unmasked", "a close", "a message"],
)
def test_other_frames_and_bad_pings_are_left_to_the_other_parsers(frame: bytes) -> None:
    assert parse_ping_or_pong(frame, 0) is None


def test_fragments_become_one_message() -> None:
    frames, _ = slow_path()
    sequence = [client_frame(TEXT, b"n\xc3", fin=False), client_frame(CONTINUATION, b"\xa9")]
    results = [(frames.feed(frame), frames.idle) for frame in sequence]
    assert results == [(None, False), (("né".encode(), True), True)]


def test_a_fragment_that_cannot_become_utf8_fails_before_the_last() -> None:
    frames, written = slow_path()
    assert frames.feed(client_frame(TEXT, b"\xce\xba\xff", fin=False)) is None
    assert frames.ended
    assert close_code(written.frames[0]) == 1007


def test_fragments_may_not_add_up_to_more_than_a_message() -> None:
    frames, written = slow_path(10)
    frames.feed(client_frame(BINARY, bytes(6), fin=False))
    assert frames.feed(client_frame(CONTINUATION, bytes(5))) is None
    assert close_code(written.frames[0]) == 1009


def test_a_close_between_two_fragments_is_answered_like_any_other() -> None:
    frames, written = slow_path()
    frames.feed(client_frame(BINARY, b"x", fin=False))
    frames.feed(client_frame(CLOSE, b"\x03\xe8"))
    assert frames.ended
    assert close_code(written.frames[0]) == 1000


def test_a_ping_between_two_fragments_is_not_part_of_the_message_size() -> None:
    frames, written = slow_path(10)
    frames.feed(client_frame(BINARY, bytes(10), fin=False))
    frames.feed(ping(b"hello"))
    assert frames.feed(client_frame(CONTINUATION)) == (bytes(10), False)
    assert written.frames == [pong_of(b"hello")]


@pytest.mark.parametrize(
    "sequence",
    [
        [client_frame(CONTINUATION, b"x")],
        [client_frame(BINARY, b"x", fin=False), client_frame(BINARY, b"x")],
        [client_frame(PING, bytes(126))],
        [client_frame(PING, fin=False)],
        [client_frame(BINARY, b"x", fin=False), client_frame(PING, bytes(126))],
        [client_frame(BINARY, b"x", rsv=0x40)],
        [client_frame(CLOSE, b"\x03")],
        [client_frame(CLOSE, b"\x03\xed")],
    ],
    ids=[
        "no start",
        "no end",
        "long ping",
        "fragmented ping",
        "long ping between",
        "compressed",
        "half a code",
        "forbidden code",
    ],
)
def test_a_protocol_error_closes_with_1002(sequence: list[bytes]) -> None:
    frames, written = slow_path()
    for frame in sequence:
        assert frames.feed(frame) is None
    assert frames.ended
    assert close_code(written.frames[0]) == 1002


@pytest.mark.parametrize("reason", ["", "short", "x" * 200, "é" * 100])
def test_a_reason_fits_into_a_control_frame(reason: str) -> None:
    fitting = fit_reason(reason)
    assert reason.startswith(fitting)
    assert len(fitting.encode()) <= 123
    assert fitting == reason or len(fitting.encode()) >= 122
