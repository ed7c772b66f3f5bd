"""Slices on their way to devices: each gets its own before the event that brings it, however the event reaches it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

import pytest

from protocol.bodies import Posted, Signed, TimelineEvent
from protocol.codec import JSON, MSGPACK, Codec, ServerMessage
from protocol.commands import Add, Heartbeat, Remove, Send
from protocol.dialog_types import DialogType, Mode
from protocol.events import DialogState, HeartbeatReply, KeySlices
from protocol.ids import new_id
from protocol.limits import SLICES_PER_COMMAND_MAX
from protocol.replies import Acked, Done
from protocol.share_commands import ConfirmSlices
from tests.support.harness import Running, Wire, running
from tests.support.sealing import another_device_of, one_device_of, sealed, upload
from tests.support.world import Person

pytestmark = pytest.mark.anyio

ONE = b"1" * 32
UNREAD = Signed(0, bytes(32), bytes(64))
"""Who adds somebody signs it; clients check that, not the server."""


class Talk:
    """A sealed group of Ann, Bo and Cy. Ann's shares are named `words`; each slice says of which, and for whom."""

    def __init__(self, server: Running, people: list[Person], dialog: bytes) -> None:
        self.server, self.dialog = server, dialog
        self.ann, self.bo, self.cy = people
        self.keys_seq = 0

    async def say(self, wire: Wire, *to: Person, word: bytes = b"one", session: bytes = ONE) -> Acked:
        """Ann uploads a share for these devices, and sends the message that names it; none: without a share."""
        share = await upload(wire, self.dialog, session, *to, keys_seq=self.keys_seq, body=word) if to else None
        header = sealed(session, share, self.keys_seq)
        said = await wire.ask(Send(99, self.dialog, self.ann.n() + 10, word, header))
        assert isinstance(said, Acked), said
        return said


@pytest.fixture
async def talk(database_url: str) -> AsyncIterator[Talk]:
    async with running(database_url) as server:
        people = [await one_device_of(server.world) for _ in range(3)]
        yield Talk(server, people, await server.world.create(DialogType.GROUP, *people, mode=Mode.SEALED))


def told(messages: Iterable[ServerMessage]) -> list[bytes]:
    """Slices and messages in the order in which they came; of a slice what is in it, of a message `: ` and its word."""
    found: list[bytes] = []
    for message in messages:
        if isinstance(message, KeySlices):
            found += [each.body for each in message.slices]
        elif isinstance(message, TimelineEvent) and isinstance(message.body, Posted):
            found.append(b": " + message.body.payload)
    return found


async def until_said(wire: Wire, word: bytes) -> list[bytes]:
    """What comes up to the message with this word."""
    messages: list[ServerMessage] = []
    while told(messages[-1:]) != [b": " + word]:
        messages.append(await wire.receive())
    return told(messages)


@pytest.mark.parametrize("codec", [MSGPACK, JSON], ids=["msgpack", "json"])
async def test_a_slice_comes_right_before_the_event_that_brings_it(talk: Talk, codec: Codec) -> None:
    tablet = await another_device_of(talk.server.world, talk.bo)
    live = talk.server.live
    async with live(talk.ann, codec) as ann, live(talk.bo, codec) as bo, live(tablet, codec) as other:
        said = await talk.say(ann, talk.bo, talk.cy, tablet)
        await talk.say(ann, word=b"two")
        for wire, device in ((bo, talk.bo.device), (other, tablet.device)):
            slices = await wire.until(KeySlices)
            (got,) = slices.slices
            assert (got.dialog, got.author, got.device) == (talk.dialog, talk.ann.principal, talk.ann.device)
            assert (got.keys_seq, got.body) == (0, b"one" + device)
            brought = await wire.receive()
            assert isinstance(brought, TimelineEvent)
            assert brought.seq == said.seq
            assert await until_said(wire, b"two") == [b": two"]
        assert set(await until_said(ann, b"two")) <= {b": one", b": two"}


async def test_what_is_not_confirmed_comes_first_at_each_sync(talk: Talk) -> None:
    live = talk.server.live
    async with live(talk.ann) as ann:
        for _ in range(SLICES_PER_COMMAND_MAX + 1):
            await talk.say(ann, talk.bo, talk.cy, session=new_id() + new_id())
    async with live(talk.bo) as bo:
        pages = [each for each in bo.caught_up if isinstance(each, KeySlices)]
        assert [len(page.slices) for page in pages] == [SLICES_PER_COMMAND_MAX, 1]
        first_state = next(at for at, each in enumerate(bo.caught_up) if isinstance(each, DialogState))
        assert bo.caught_up[1:first_state] == pages
        position = bo.position
        assert isinstance(await bo.ask(ConfirmSlices(3, [each.number for each in pages[0].slices])), Done)
    for since in (position, ""):
        async with live(talk.bo, position=since) as bo:
            assert [each for each in bo.caught_up if isinstance(each, KeySlices)] == pages[1:]


async def test_a_session_that_fell_behind_gets_slices_with_the_page(talk: Talk) -> None:
    async with talk.server.live(talk.ann) as ann, talk.server.live(talk.bo) as bo:
        said = await talk.say(ann, talk.bo, talk.cy)
        for _ in range(2):
            assert await until_said(bo, b"one") == [b"one" + talk.bo.device, b": one"]
            talk.server.session_of(talk.bo).outbox.read_from(talk.dialog, said.seq)


async def test_who_is_added_gets_what_was_shared_with_them_and_nothing_older(talk: Talk) -> None:
    di = await one_device_of(talk.server.world)
    async with talk.server.live(talk.ann) as ann, talk.server.live(di) as late, talk.server.live(talk.bo) as bo:
        await talk.say(ann, talk.bo, talk.cy)
        added = await ann.ask(Add(5, talk.dialog, talk.ann.n() + 10, [di.principal], UNREAD))
        talk.keys_seq = added.seq
        await talk.say(ann, di, word=b"two")
        assert await until_said(late, b"two") == [b"two" + di.device, b": two"]
        assert await until_said(bo, b"two") == [b"one" + talk.bo.device, b": one", b": two"]


async def test_who_was_removed_gets_no_slice_of_what_comes_after(talk: Talk) -> None:
    live = talk.server.live
    async with live(talk.ann) as ann, live(talk.cy) as gone, live(talk.bo) as bo:
        removed = await ann.ask(Remove(5, talk.dialog, talk.ann.n() + 10, talk.cy.principal))
        talk.keys_seq = removed.seq
        await talk.say(ann, talk.bo)
        assert await until_said(bo, b"one") == [b"one" + talk.bo.device, b": one"]
        await gone.send(Heartbeat(6))
        came = []
        while not isinstance(message := await gone.receive(), HeartbeatReply):
            came.append(message)
        assert told(came) == []
    async with talk.server.live(talk.cy) as gone:
        assert told(gone.caught_up) == []
