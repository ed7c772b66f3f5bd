"""The lean client's frames, read and written by the server's own cutter and encoder."""

import pytest

from loadtest.lean_client import LeanClient, LoadError, masked
from protocol.codec import MSGPACK
from protocol.events import HeartbeatReply
from server.gateway import frames


@pytest.mark.parametrize("length", [0, 1, 125, 126, 65_535])
def test_a_frame_is_what_the_server_cuts(length: int) -> None:
    payload = bytes(length)
    frame = masked(payload)
    assert frames.parse_common_frame(frame, 0, 65_536) == (len(frame), payload, False)


def test_messages_arrive_whole_however_the_bytes_are_cut() -> None:
    beats = [MSGPACK.encode(HeartbeatReply("x" * length)) for length in (0, 1, 200, 70_000)]
    stream = b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + b"".join(
        frames.encode(frames.BINARY, each) for each in beats
    )
    for size in (1, 2, 3, 7, 1000, len(stream)):
        heard: list[bytes] = []
        client = LeanClient("token", _fail)
        client.receiver = lambda _, message, heard=heard: heard.append(message)  # type: ignore[misc]
        for at in range(0, len(stream), size):
            client.data_received(stream[at : at + size])
        assert heard == beats


def test_a_close_is_a_trouble() -> None:
    client = LeanClient("token", _fail)
    client.data_received(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
    with pytest.raises(LoadError, match="bye"):
        client.data_received(frames.encode(frames.CLOSE, b"\x0f\xa0bye"))


def test_a_refused_handshake_is_a_trouble() -> None:
    with pytest.raises(LoadError, match="429"):
        LeanClient("token", _fail).data_received(b"HTTP/1.1 429 Too Many Requests\r\n\r\n")


def _fail(why: str) -> None:
    raise LoadError(why)
