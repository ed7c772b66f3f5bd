"""Random frames: the outcome does not depend on how a stream is split, and is that of `websockets`.

Hypothesis rather than a coverage-guided fuzzer: the interesting inputs are well-formed frames in unusual orders, split
at unusual places. Strategies build them; a mutator of bytes seldom finds them. A failure shrinks to the faulty frame.
"""

import codecs
import itertools
from typing import NamedTuple

from hypothesis import example, given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side, State

from server.config.settings import GatewaySettings
from server.gateway.connection import Connection
from server.gateway.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, find_frame_end
from tests.support.fake_network import FakeTimers, FakeTransport, RecordingPeer, client_frame

LIMIT = 300
_utf8_decoder = codecs.getincrementaldecoder("utf-8")
SETTINGS = GatewaySettings(message_bytes_max=LIMIT)

payloads = st.one_of(
    st.binary(max_size=8),
    st.text(max_size=8).map(str.encode),
    st.sampled_from([bytes(125), bytes(126), bytes(LIMIT), bytes(LIMIT + 1), b"\xff", b"\xce\xba\xe1"]),
)
messages = st.builds(client_frame, st.sampled_from([TEXT, BINARY]), payloads)
fragments = st.builds(
    client_frame, st.sampled_from([TEXT, BINARY, CONTINUATION, CONTINUATION]), payloads, fin=st.booleans()
)
controls = st.builds(client_frame, st.sampled_from([PING, PONG]), st.binary(max_size=126))
closes = st.builds(
    client_frame, st.just(CLOSE), st.sampled_from([b"", b"\x03\xe8", b"\x03\xe8bye", b"\x03", b"\x0b\xb8\xff"])
)
broken = st.builds(
    client_frame,
    st.integers(0, 15),
    payloads,
    fin=st.booleans(),
    rsv=st.sampled_from([0, 0, 0x40, 0x10]),
    masked=st.booleans(),
)
streams = st.lists(st.one_of(messages, messages, fragments, controls, closes, broken), max_size=12).map(b"".join)


class Outcome(NamedTuple):
    """The effects of a stream."""

    messages: list[tuple[bytes, bool]]
    sent: bytes
    ended: bool


def outcome(parts: list[bytes]) -> Outcome:
    transport, timers = FakeTransport(), FakeTimers()
    connection = Connection(transport, SETTINGS, timers, address="", subprotocol="", lost=lambda _: None)
    peer = RecordingPeer(connection)
    connection.start(lambda _: peer)
    connection.trust()
    for part in parts:
        connection.data_received(part)
    assert peer.events == []
    return Outcome(peer.messages, bytes(transport.sent), "eof" in transport.events)


def split(data: bytes, offsets: list[int]) -> list[bytes]:
    places = [0, *sorted(offset % (len(data) + 1) for offset in offsets), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(places)]


class Verdict(NamedTuple):
    """What the library's own parser does with a stream."""

    messages: list[tuple[bytes, bool]]
    code: int | None
    """Of the close frame it sends."""
    control_between_fragments: bool
    """Whether it failed at such a frame: there the gateway follows the RFC and the library does not."""


def by_the_library(data: bytes) -> Verdict:
    protocol = Protocol(Side.SERVER, state=State.OPEN, max_size=LIMIT)
    protocol.receive_data(data)
    messages: list[tuple[bytes, bool]] = []
    message, is_text, decoder, at, gathering = bytearray(), False, _utf8_decoder(), 0, False
    for frame in protocol.events_received():
        assert isinstance(frame, Frame)
        at = find_frame_end(data, at, LIMIT) or 0
        if frame.opcode in (Opcode.PING, Opcode.PONG, Opcode.CLOSE):
            continue
        if frame.opcode is not Opcode.CONT:
            message, is_text, decoder = bytearray(), frame.opcode is Opcode.TEXT, _utf8_decoder()
        message += frame.data
        gathering = not frame.fin
        try:
            if is_text:
                decoder.decode(frame.data, final=frame.fin)
        except UnicodeDecodeError:
            return Verdict(messages, 1007, False)
        if frame.fin:
            messages.append((bytes(message), is_text))
    code = protocol.close_sent.code if protocol.close_sent is not None else None
    return Verdict(messages, code, gathering and at < len(data) and bool(data[at] & 0x08))


def close_code(sent: bytes) -> int | None:
    """The code of the close frame among what a connection sent."""
    client = Protocol(Side.CLIENT, state=State.OPEN)
    client.receive_data(sent)
    return client.close_rcvd.code if client.close_rcvd is not None else None


@given(streams)
@example(client_frame(BINARY, bytes(200), fin=False) + client_frame(CONTINUATION, bytes(101))[:4])
def test_messages_and_closing_are_what_the_library_says(data: bytes) -> None:
    theirs, ours = by_the_library(data), outcome([data])
    if not theirs.control_between_fragments:
        assert ours.messages == theirs.messages
        assert close_code(ours.sent) == theirs.code
        assert ours.ended == (theirs.code is not None)


@given(streams, st.lists(st.integers(0, 10_000), max_size=20))
def test_the_outcome_is_the_same_however_a_stream_is_split(data: bytes, offsets: list[int]) -> None:
    assert outcome(split(data, offsets)) == outcome([data])


@given(streams)
def test_the_outcome_is_the_same_one_byte_at_a_time(data: bytes) -> None:
    assert outcome([bytes((byte,)) for byte in data]) == outcome([data])


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=5))
def test_random_bytes_never_raise_and_have_one_outcome_however_split(data: bytes, offsets: list[int]) -> None:
    assert outcome(split(data, offsets)) == outcome([data])
