"""The minimal servers as processes: a conversation over real sockets, by a client that is not of the load."""

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from loadtest.baselines.floor import measure_floor
from protocol.bodies import TimelineEvent
from protocol.codec import MSGPACK, ServerMessage
from protocol.command_rules import Command
from protocol.commands import Authenticate, Create, Send, Sync
from protocol.dialog_types import DialogType
from protocol.ids import created_dialog_id, new_id
from protocol.replies import Acked, Authenticated

PEOPLE, MESSAGES = 4, 50


@pytest.fixture(params=["broadcast_server", "queue_server"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The websocket of a server that ends with the test."""
    command = [sys.executable, "-m", f"loadtest.baselines.{request.param}", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        found = re.search(r"http://(127\.0\.0\.1:\d+)", server.stdout.readline())
        try:
            assert found
            yield f"ws://{found[1]}/v1/ws"
        finally:
            server.terminate()
    assert server.returncode == 0


async def say(connection: ClientConnection, command: Command) -> None:
    await connection.send(MSGPACK.encode(command))


async def hear(connection: ClientConnection) -> ServerMessage | None:
    message = await connection.recv()
    assert isinstance(message, bytes)
    return MSGPACK.decode_server(message)


async def enter(url: str, name: str, device: bytes) -> tuple[ClientConnection, bytes]:
    connection = await connect(url, subprotocols=[Subprotocol(MSGPACK.subprotocol)], compression=None)
    await say(connection, Authenticate(1, name, device))
    who = await hear(connection)
    assert isinstance(who, Authenticated)
    await say(connection, Sync(2))
    await hear(connection)
    await hear(connection)
    return connection, who.principal


async def converse(url: str) -> None:
    device = new_id()
    people = [await enter(url, f"person {number}", device) for number in range(PEOPLE)]
    (author, _), *others = people
    await say(author, Create(3, 1, DialogType.GROUP, [principal for _, principal in others], "a room"))
    created = [await hear(author), await hear(author)]  # before others send: nothing orders different connections
    assert {type(message) for message in created} == {TimelineEvent, Acked}
    await asyncio.gather(
        *(send_and_hear(connection, created_dialog_id(device, 1), first_seq=1) for connection, _ in others),
        send_and_hear(author, created_dialog_id(device, 1), first_seq=2),
    )


async def send_and_hear(connection: ClientConnection, dialog: bytes, first_seq: int) -> None:
    """What everybody sends comes from `first_seq` on; the acks of this connection are ordered."""
    for n in range(2, MESSAGES + 2):
        await say(connection, Send(4, dialog, n, b"hello"))
    last_seq = 1 + PEOPLE * MESSAGES
    heard = [await hear(connection) for _ in range(last_seq + 1 - first_seq + MESSAGES)]
    assert [message.seq for message in heard if isinstance(message, TimelineEvent)] == [*range(first_seq, last_seq + 1)]
    acks = [message.seq for message in heard if isinstance(message, Acked)]
    assert acks == sorted(set(acks))
    assert len(acks) == MESSAGES
    await connection.close()


def test_everybody_gets_every_event_once_and_in_order(url: str) -> None:
    asyncio.run(asyncio.wait_for(converse(url), 20))


def test_the_floor_counts_deliveries_and_their_cpu_time() -> None:
    single, joined = (measure_floor(4, 400, joined, 0.05) for joined in (1, 10))
    assert single.deliveries % 4 == joined.deliveries % 40 == 0
    assert single.cpu_s >= 0.05
    assert joined.deliveries_per_cpu_s > 2 * single.deliveries_per_cpu_s
