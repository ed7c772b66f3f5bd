"""The client on the page works against a real node; the conversation on the page is one that the codec accepts."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from protocol import bodies, ids
from protocol.codec import JSON
from protocol.dialog_types import DialogType
from protocol.errors import ErrorCode
from protocol.reference import guide
from protocol.reference.small_client import Message, SmallClient
from tests.support.harness import Running, running
from tests.support.world import Person

pytestmark = pytest.mark.anyio

WHOLE = "\n".join(guide.as_markdown())
TEAM = "5be1d0a2-44c3-8f6b-9a07-3c4d5e6f7a8b"


def test_what_is_said_on_the_page_decodes() -> None:
    lines = WHOLE.split("```text\n")[1].split("```")[0].splitlines()
    for line in lines:
        sign, _, text = line.partition(" ")
        assert sign in "><#"
        if sign == ">":
            JSON.decode_command(text.encode())
        elif sign == "<":
            assert JSON.decode_server(text.encode()) is not None
    assert [line[0] for line in lines].count("<") > 10


def test_the_client_on_the_page_knows_every_temporary_code() -> None:
    temporary = {code.value for code in ErrorCode if code.temporary} | {ErrorCode.STALE.value}
    assert all(f'"{code}"' in WHOLE for code in temporary)


class Phone:
    """The client of the page on a real websocket, whose connections the test cuts."""

    def __init__(self, node: Running, person: Person) -> None:
        self._url = node.url
        self._socket: ClientConnection | None = None
        self._queued: list[Message] = []
        self.client = SmallClient(node.token(person), self._queued.append, self._queued.clear)

    async def connect(self) -> None:
        self._socket = await connect(self._url, subprotocols=[Subprotocol(JSON.subprotocol)], compression=None)
        self.client.connected()

    async def cut(self) -> None:
        """Lose the connection, and every answer that is on its way."""
        assert self._socket is not None
        self._socket.transport.abort()
        await self._socket.wait_closed()

    async def flush(self) -> None:
        """Send what the client wants to send."""
        assert self._socket is not None
        while self._queued:
            await self._socket.send(json.dumps(self._queued.pop(0)))

    async def until(self, reached: Callable[[SmallClient], bool]) -> None:
        """Feed the client until it is as far."""
        assert self._socket is not None
        await self.flush()
        while not reached(self.client):
            self.client.received(json.loads(await self._socket.recv()))
            await self.flush()


def texts(client: SmallClient) -> list[str]:
    posted = [event["body"] for event in client.events if event["body"]["tag"] == "posted"]
    return [base64.b64decode(body["payload"]).decode() for body in posted]


async def with_two(database_url: str, play: Callable[[Phone, Phone, str], Awaitable[Any]]) -> None:
    """Ann and Bob with the client of the page, and their direct dialog."""
    async with running(database_url) as node, contextlib.AsyncExitStack() as stack:
        ann, bob = await node.world.person(), await node.world.person()
        dialog = await node.world.create(DialogType.DIRECT, bob, ann)
        phones = Phone(node, ann), Phone(node, bob)
        for phone in phones:
            stack.push_async_callback(phone.cut)
        await play(*phones, ids.to_text(dialog))


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


async def test_the_client_on_the_page_receives_everything_once_and_in_order_over_cuts(database_url: str) -> None:
    async def play(ann: Phone, bob: Phone, dialog: str) -> None:
        for phone in (ann, bob):
            await phone.connect()
            await phone.until(lambda client: bool(client.position))
        said = []
        for number in range(60):
            said.append(f"message {number}")
            ann.client.send(dialog, encoded(said[-1]))
            await ann.flush()
            if number % 20 == 7:
                await ann.cut()
                await ann.connect()
            if number % 20 == 13:
                await bob.cut()
                await bob.connect()
                await bob.until(lambda client: client.live)
        await ann.until(lambda client: not client.outbox)
        await bob.until(lambda client: len(texts(client)) == len(said))
        assert texts(bob.client) == said

    await with_two(database_url, play)


async def test_the_client_on_the_page_steps_over_what_it_may_not_see(database_url: str) -> None:
    async with running(database_url) as node:
        ann, bob, cy = [await node.world.person() for _ in range(3)]
        dialog = await node.world.create(DialogType.GROUP, ann, bob, cy)
        await node.world.say(dialog, ann, "for Cy")
        await node.world.act(bodies.MemberRemoved, dialog, ann, cy)
        await node.world.say(dialog, ann, "without Cy")
        await node.world.act(bodies.MembersAdded, dialog, ann, cy)
        await node.world.say(dialog, ann, "for Cy again")
        phone = Phone(node, cy)
        await phone.connect()
        await phone.until(lambda client: bool(client.position))
        assert texts(phone.client) == ["for Cy", "for Cy again"]


async def test_the_client_on_the_page_starts_again_at_the_refused_one() -> None:
    sent: list[Message] = []
    client = SmallClient("token", sent.append, sent.clear)
    client.received({"tag": "synced", "id": 2, "recovered": True})
    for text in ("one", "two", "three"):
        client.send(TEAM, encoded(text))
    first, second, third = list(sent)
    sent.clear()
    client.received({"tag": "acked", "id": first["id"]})
    client.received({"tag": "failed", "id": second["id"], "code": "unavailable"})
    client.send(TEAM, encoded("four"))
    assert sent == []
    client.received({"tag": "failed", "id": third["id"], "code": "unavailable"})
    assert [command["n"] for command in sent] == [2, 3, 4]
