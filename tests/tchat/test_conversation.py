"""The client against a real node: conversations, cuts, and views that agree with a fresh read."""

from __future__ import annotations

import contextlib
import functools
import operator
from collections.abc import AsyncIterator

import anyio
import pytest

from protocol.bodies import Header, Settings
from protocol.codec import CODECS, JSON, MSGPACK, Codec
from protocol.commands import (
    Add,
    Block,
    ChangeSettings,
    Create,
    Delete,
    Demote,
    Edit,
    History,
    Leave,
    Mute,
    Promote,
    React,
    Remove,
    Send,
)
from protocol.dialog_types import DialogType, Mode
from protocol.replies import HistoryPage
from tchat.actions import ConnectionState, RefusedError
from tchat.encryption.notices import Standing
from tchat.memory_store import MemoryStore
from tchat.shell import Client
from tchat.store import MemoryOutbox
from tests.support.harness import Running, configured, running
from tests.support.sealers import PlainSealer
from tests.support.world import Person

pytestmark = pytest.mark.anyio


@pytest.fixture
async def server(database_url: str) -> AsyncIterator[Running]:
    """A node with the default limits."""
    async with running(database_url, configured()) as node:
        yield node


async def people(server: Running, count: int) -> list[Person]:
    """People with a `self` dialog each."""
    made = await server.world.people(count)
    for person in made:
        await server.world.create(DialogType.SELF, person)
    return made


@contextlib.asynccontextmanager
async def online(
    server: Running, person: Person, codec: Codec = MSGPACK, *, store: MemoryStore | None = None
) -> AsyncIterator[Client]:
    """A client of a person, live; it encrypts if it gets a store that keeps keys."""

    async def token(_fresh: bool) -> str:
        return server.token(person)

    kept = store or MemoryOutbox()
    encryption = None if store else PlainSealer(kept)
    with anyio.fail_after(30):
        async with Client(
            server.url, token, store=kept, encryption=encryption, codec=codec, on_event=lambda _event: None
        ) as client:
            await client.wait_until(lambda: client.state is ConnectionState.LIVE)
            await client.wait_until(lambda: store is None or client.encryption.standing is Standing.LISTED)
            yield client


async def known(dialog: bytes, *clients: Client) -> None:
    """Return when all of them know a dialog: its ack may come before its state."""
    for client in clients:
        await client.wait_until(functools.partial(operator.contains, client.view.dialogs, dialog))


async def agree(server: Running, person: Person, client: Client) -> None:
    """What a client has folded is what a fresh one reads."""
    async with online(server, person, JSON) as fresh:
        for key, dialog in fresh.view.dialogs.items():
            while not dialog.complete:
                page = await fresh.request(History(0, key, to_seq=dialog.loaded_from - 1, limit=200))
                assert isinstance(page, HistoryPage)
                assert page.events
        seqs = {key: dialog.seq for key, dialog in fresh.view.dialogs.items()}
        await client.wait_until(
            lambda: all((one := client.view.dialogs.get(key)) and one.seq >= seq for key, seq in seqs.items())
        )
        assert client.view.canonical() == fresh.view.canonical()


@pytest.mark.parametrize("codec", CODECS.values(), ids=lambda codec: codec.subprotocol)
async def test_two_people_talk_and_both_views_are_what_a_fresh_read_gives(server: Running, codec: Codec) -> None:
    ann, bob = await people(server, 2)
    async with online(server, ann, codec) as a, online(server, bob) as b:
        dialog = (await a.perform(Create(0, 0, DialogType.DIRECT, [bob.principal], mode=Mode.OPEN))).dialog
        await known(dialog, a, b)
        for number in range(30):
            a.submit(Send(0, dialog, 0, b"a%d" % number))
            b.submit(Send(0, dialog, 0, b"b%d" % number))
        await b.wait_until(lambda: b.view.dialogs[dialog].messages == 60)
        await b.send(dialog, b"last")
        await a.wait_until(lambda: a.view.dialogs[dialog].messages == 61)
        await b.wait_until(lambda: b.view.dialogs[dialog].messages == 61)
        said = [one.payload for one in a.view.dialogs[dialog].timeline() if hasattr(one, "payload")]
        assert [text for text in said if text.startswith(b"a")] == [b"a%d" % number for number in range(30)]
        assert b.view.dialogs[dialog].unread == 0
        await agree(server, ann, a)
        await agree(server, bob, b)


async def test_every_kind_of_change_is_seen_live_as_a_fresh_read_sees_it(server: Running) -> None:
    ann, bob, cem, dan = await people(server, 4)
    async with online(server, ann) as a, online(server, bob, JSON) as b, online(server, cem) as c:
        members = [bob.principal, cem.principal]
        group = (await a.perform(Create(0, 0, DialogType.GROUP, members, "Team", Mode.OPEN))).dialog
        await known(group, a, b, c)
        first = await b.send(group, b"one")
        second = await c.send(group, b"two", header=Header(reply_to=first.seq))
        await a.perform(React(0, group, 0, first.seq, b"+"))
        await a.perform(React(0, group, 0, second.seq, b"+"))
        await c.perform(React(0, group, 0, second.seq, b""))
        await b.perform(Edit(0, group, 0, first.seq, b"one, edited"))
        await a.perform(Delete(0, group, 0, second.seq))
        await a.perform(Add(0, group, 0, [dan.principal]))
        await a.perform(Promote(0, group, 0, bob.principal))
        await a.perform(Demote(0, group, 0, bob.principal))
        await a.perform(ChangeSettings(0, group, 0, "Crew", "all of us", settings=Settings(message_retention_days=9)))
        await a.perform(Remove(0, group, 0, cem.principal))
        await c.wait_until(lambda: not c.view.dialogs[group].member)
        await b.perform(Mute(0, group, 0, 99))
        await b.perform(Block(0, cem.principal, 0))
        with pytest.raises(RefusedError, match="dialog_not_found"):
            await c.send(group, b"still there?")
        await b.send(group, b"three", header=b.make_header(group))
        async with online(server, dan) as d:
            await d.send(group, b"hello all", header=d.make_header(group))
            await a.perform(Leave(0, group, 0))
            for person, client in ((ann, a), (bob, b), (cem, c), (dan, d)):
                await agree(server, person, client)


async def test_a_send_that_is_stale_is_sealed_anew_and_goes_through_in_order(server: Running) -> None:
    ann, bob, cem = await people(server, 3)
    async with online(server, ann, store=MemoryStore()) as a, online(server, bob, store=MemoryStore()) as b:
        group = (await a.perform(Create(0, 0, DialogType.GROUP, [bob.principal, cem.principal], "Team"))).dialog
        await known(group, a, b)
        await a.perform(Remove(0, group, 0, cem.principal))
        acked = [b.submit(Send(0, group, 0, b"%d" % number)) for number in range(20)]
        await b.wait_until(lambda: not b.pending())
        await b.wait_until(lambda: b.view.dialogs[group].messages == 20)
        said = [one for one in b.view.dialogs[group].timeline() if hasattr(one, "payload")]
        assert [one.n for one in said] == acked


async def test_a_client_that_was_away_catches_up_from_its_position(server: Running) -> None:
    ann, bob = await people(server, 2)
    async with online(server, ann) as a, online(server, bob) as b:
        dialog = (await a.perform(Create(0, 0, DialogType.DIRECT, [bob.principal], mode=Mode.OPEN))).dialog
        await known(dialog, a, b)
        server.session_of(bob).connection.abort()
        for number in range(50):
            a.submit(Send(0, dialog, 0, b"%d" % number))
        await b.send(dialog, b"back")
        await a.wait_until(lambda: a.view.dialogs[dialog].messages == 51)
        await b.wait_until(lambda: b.view.dialogs[dialog].messages == 51)
        assert b.statistics().core.connects == 2
        await agree(server, bob, b)
