"""What a checking client makes of what a server sends, without a network."""

import asyncio
from typing import cast

import pytest

from loadtest.checking_client import CheckingClient
from loadtest.pieces import PieceReader
from loadtest.tally import Tally
from protocol.bodies import Settings
from protocol.dialog_types import DialogType, Mode, Role
from protocol.events import DialogState, Draining, HeartbeatReply
from protocol.replies import Failed, Synced
from tests.loadtest.streams import DIALOG, PAYLOAD, ack, frame, message

HANDSHAKE = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"


class Wire:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)


@pytest.fixture
def tally() -> Tally:
    return Tally()


@pytest.fixture
def client(tally: Tally) -> CheckingClient:
    made = CheckingClient("token", tally, PieceReader(PAYLOAD, shared=True))
    made.transport = cast("asyncio.Transport", Wire())
    made.data_received(HANDSHAKE)
    return made


def test_deliveries_are_counted_and_move_the_head(client: CheckingClient, tally: Tally) -> None:
    client.data_received(message(1) + message(2))
    client.data_received(message(3))
    assert (tally.delivered, client.heads, tally.checks().failed) == (3, {DIALOG: 3}, 0)


def test_a_frame_in_two_pieces_is_one_delivery(client: CheckingClient, tally: Tally) -> None:
    stream = message(1) + message(2)
    client.data_received(stream[:100])
    client.data_received(stream[100:])
    assert (tally.delivered, client.heads) == (2, {DIALOG: 2})


def test_an_ack_is_followed_by_what_the_load_says(client: CheckingClient, tally: Tally) -> None:
    acked: list[CheckingClient] = []
    client.then = acked.append
    client.post(DIALOG, PAYLOAD.make(5), 5)
    client.data_received(ack(1, 2))
    assert (acked, tally.acked, tally.acked_heads) == ([client], 1, {DIALOG: 2})


def test_a_second_ack_of_a_message_is_odd(client: CheckingClient, tally: Tally) -> None:
    client.post(DIALOG, PAYLOAD.make(5), 5)
    client.data_received(ack(1, 2) + ack(1, 2))
    assert (tally.acked, tally.odd) == (1, 1)


def test_a_refused_send_is_counted(client: CheckingClient, tally: Tally) -> None:
    client.post(DIALOG, PAYLOAD.make(5), 5)
    client.data_received(frame(Failed(1, "stale", "Send it again.")))
    assert (tally.refused, tally.checks().first) == (1, "refused: stale: Send it again.")


def test_a_dialog_begins_where_the_server_says_and_goes_on_where_the_client_was(
    client: CheckingClient, tally: Tally
) -> None:
    client.data_received(frame(Synced(2, True)) + state(first_seq=8) + message(8))
    assert (client.heads, tally.checks().first) == ({DIALOG: 8}, "")
    client.data_received(frame(Synced(2, True)) + state(first_seq=20))
    assert client.heads == {DIALOG: 8}
    client.data_received(frame(Synced(2, False)) + state(first_seq=20))
    assert client.heads == {DIALOG: 19}


def test_a_position_is_kept_and_anything_else_is_odd(client: CheckingClient, tally: Tally) -> None:
    client.data_received(frame(HeartbeatReply("here")))
    assert (client.position, tally.odd) == ("here", 0)
    client.data_received(frame(Draining(1.0)))
    assert (tally.odd, tally.checks().first) == (1, "unexpected: Draining")


def state(*, first_seq: int) -> bytes:
    return frame(
        DialogState(
            DIALOG, DialogType.GROUP, Mode.OPEN, "", "", "", Settings(), Role.MEMBER, True, 30, 30, 0, 2, first_seq,
            [(1, 0)], 0, 0, 0, 0,
        )
    )  # fmt: skip
