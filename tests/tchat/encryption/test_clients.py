"""Clients that encrypt, against a real node: two fresh devices talk, and each shows what the other wrote."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import msgspec
import pytest
from nacl.public import PrivateKey, SealedBox

from protocol.bodies import Posted
from protocol.canonical import to_base64
from protocol.commands import Create, Delete, Edit, History, React, Send
from protocol.dialog_types import DialogType, Mode
from protocol.errors import ErrorCode
from protocol.ids import new_id, self_dialog_id
from protocol.replies import HistoryPage
from server.config.settings import ReportSettings
from storage.postgres.reports import PostgresReports
from storage.reports import Evidence
from tchat.actions import ConnectionState, RefusedError
from tchat.crypto.errors import Reason
from tchat.crypto.state import Table
from tchat.encryption.notices import Standing
from tchat.memory_store import MemoryStore
from tchat.sealed_store import SealedStore
from tchat.shell import Client
from tchat.store import OutboxStore
from tchat.store_key import FileKey
from tests.support.harness import Running, configured, running
from tests.support.sealing import keys_end
from tests.support.world import Person

pytestmark = pytest.mark.anyio


@pytest.fixture
async def server(database_url: str) -> AsyncIterator[Running]:
    """A node with the default limits."""
    async with running(database_url, configured()) as node:
        yield node


async def people(server: Running, count: int) -> list[Person]:
    """People with a `self` dialog each, as the server creates it: sealed, and under no number of a device."""
    made = await server.world.people(count)
    for person in made:
        await server.world.try_create(DialogType.SELF, person, mode=Mode.SEALED, n=0)
    return made


@contextlib.asynccontextmanager
async def online(
    server: Running, person: Person, store: OutboxStore | None = None, standing: Standing = Standing.LISTED
) -> AsyncIterator[Client]:
    """A client of a person that keeps keys, once it is this to others."""

    async def token(_fresh: bool) -> str:
        return server.token(person)

    with anyio.fail_after(20):
        async with Client(server.url, token, store=store or MemoryStore(), on_event=lambda _event: None) as client:
            await client.wait_until(lambda: client.state is ConnectionState.LIVE)
            await client.wait_until(lambda: client.encryption.standing is standing)
            yield client


@contextlib.asynccontextmanager
async def disk(server: Running, person: Person, folder: Path) -> AsyncIterator[Client]:
    """One life of a client whose store is on disk."""
    store = SealedStore(folder / "store", FileKey(folder / "key"))
    try:
        async with online(server, person, store) as client:
            yield client
    finally:
        store.close()


def reactions(client: Client, dialog: bytes, seq: int) -> dict[bytes, bytes]:
    message = client.view.dialogs[dialog].message(seq)
    assert message is not None
    return message.reactions


def said(client: Client, dialog: bytes) -> list[bytes]:
    view = client.view.dialogs.get(dialog)
    return [] if view is None else [one.payload for one in view.timeline() if hasattr(one, "payload")]


async def another_device(server: Running, person: Person) -> Person:
    """The same person on a device that is new."""
    other = Person(person.principal)
    await server.world.pool.execute("INSERT INTO devices VALUES ($1, $2, 0)", other.device, other.principal)
    await server.world.another_sign_in(other)
    return other


async def direct(a: Client, b: Person) -> bytes:
    """The direct dialog of a client with somebody."""
    return (await a.perform(Create(0, 0, DialogType.DIRECT, [b.principal]))).dialog


def lose(store: MemoryStore, *tables: Table) -> None:
    """What a device kept in these tables is gone."""
    store.commit(dict.fromkeys((table, row) for table in tables for row in store.keys(table, b"")), [])


def lost(store: MemoryStore, dialog: bytes) -> bool:
    """Whether the device knows that another one has lost the session of this dialog, which it is to get again."""
    outbound = store.read(Table.OUTBOUND, dialog)
    return outbound is not None and bool(msgspec.msgpack.decode(outbound)[-1])


async def test_a_fresh_device_writes_notes_to_itself(server: Running) -> None:
    (ann,) = await people(server, 1)
    async with online(server, ann) as a:
        await a.send(self_dialog_id(ann.principal), b"buy milk")
        await a.wait_until(lambda: said(a, self_dialog_id(ann.principal)) == [b"buy milk"])


async def test_two_fresh_devices_talk_and_the_server_has_nothing_to_read(server: Running) -> None:
    ann, bob = await people(server, 2)
    async with online(server, ann) as a, online(server, bob) as b:
        dialog = await direct(a, bob)
        await a.send(dialog, b"hello Bob")
        await b.wait_until(lambda: said(b, dialog) == [b"hello Bob"])
        await b.send(dialog, b"hello Ann")
        await a.wait_until(lambda: said(a, dialog) == [b"hello Bob", b"hello Ann"])
    rows = await server.world.pool.fetch("SELECT body FROM journal WHERE dialog_id = $1", dialog)
    assert len(rows) == 3
    assert not any(b"hello" in row["body"] for row in rows)


async def test_who_was_away_reads_everything_and_so_does_the_next_process(server: Running, tmp_path: Path) -> None:
    ann, bob = await people(server, 2)
    async with online(server, ann) as a:
        async with disk(server, bob, tmp_path):
            dialog = await direct(a, bob)
        for number in range(3):
            await a.send(dialog, b"%d" % number)
        for _ in range(2):
            async with disk(server, bob, tmp_path) as b:
                await b.wait_until(lambda: said(b, dialog) == [b"0", b"1", b"2"])
                page = await b.request(History(0, dialog))
                assert isinstance(page, HistoryPage)
                assert [one.body.payload for one in page.events if isinstance(one.body, Posted)] == [b"0", b"1", b"2"]


async def test_who_lost_a_channel_gets_the_keys_again_with_the_next_message(server: Running) -> None:
    ann, bob = await people(server, 2)
    a_store, b_store = MemoryStore(), MemoryStore()
    async with online(server, ann, a_store) as a, online(server, bob, b_store) as b:
        dialog = await direct(a, bob)
        await a.send(dialog, b"first")
        await b.wait_until(lambda: said(b, dialog) == [b"first"])
        lose(b_store, Table.CHANNELS)
        lose(a_store, Table.OUTBOUND, Table.HANDED)
        await a.send(dialog, b"lost")
        await a.wait_until(lambda: lost(a_store, dialog))
        await a.send(dialog, b"again")
        await b.wait_until(lambda: said(b, dialog) == [b"first", b"", b"again"])


async def test_who_signs_in_again_reads_what_is_written_from_then_on(server: Running) -> None:
    """Their keys go with the sign-in: who writes meanwhile begins a session without them."""
    ann, bob = await people(server, 2)
    store = MemoryStore()
    async with online(server, bob, store):
        pass
    async with online(server, ann) as a:
        dialog = await direct(a, bob)
        await keys_end(server.world, bob)
        await a.send(dialog, b"away")
        before = a.view.dialogs[dialog].keys_seq
        bob.sign_in = new_id()
        await server.world.another_sign_in(bob)
        async with online(server, bob, store) as b:
            await a.wait_until(lambda: a.view.dialogs[dialog].keys_seq > before)
            await a.send(dialog, b"here")
            await b.wait_until(lambda: said(b, dialog) == [b"", b"here"])


async def test_edits_and_reactions_are_sealed_and_opened(server: Running) -> None:
    ann, bob = await people(server, 2)
    async with online(server, ann) as a, online(server, bob) as b:
        dialog = await direct(a, bob)
        first = await a.send(dialog, b"one")
        await a.perform(Edit(0, dialog, 0, first.seq, b"two"))
        await b.wait_until(lambda: said(b, dialog) == [b"two"])
        await b.perform(React(0, dialog, 0, first.seq, b"+"))
        await a.wait_until(lambda: reactions(a, dialog, first.seq) == {bob.principal: b"+"})
        await b.perform(React(0, dialog, 0, first.seq, b""))
        await a.wait_until(lambda: reactions(a, dialog, first.seq) == {})


async def test_what_was_opened_is_reported_also_when_its_author_has_deleted_it(database_url: str) -> None:
    moderators = PrivateKey.generate()
    settings = ReportSettings(moderators_key=to_base64(bytes(moderators.public_key)))
    async with running(database_url, configured(reports=settings)) as server:
        ann, bob = await people(server, 2)
        store = MemoryStore()
        async with online(server, ann) as a, online(server, bob, store) as b:
            dialog = await direct(a, bob)
            sent = await a.send(dialog, b"a threat")
            edited = await a.perform(Edit(0, dialog, 0, sent.seq, b"another"))
            await b.wait_until(lambda: said(b, dialog) == [b"another"])
            await a.perform(Delete(0, dialog, 0, sent.seq))
            for seq, content in ((sent.seq, b"a threat"), (edited.seq, b"another")):
                with pytest.raises(RefusedError, match=ErrorCode.REPORT_REFUSED.sentence):
                    await b.report(dialog, seq, b"something else")
                await b.report(dialog, seq, content, "help")
            with pytest.raises(LookupError):
                await b.report(dialog, 999, b"")
            there = await a.send(dialog, b"of long ago")
            lose(store, Table.FRANKED)
            await b.report(dialog, there.seq, b"of long ago")
        reports = await PostgresReports(server.world.pool).list(after=0, limit=9)
        opened = [msgspec.json.decode(SealedBox(moderators).decrypt(each.sealed), type=Evidence) for each in reports]
        assert [(each.content, each.reason) for each in opened] == [
            (b"a threat", "help"),
            (b"another", "help"),
            (b"of long ago", ""),
        ]


async def test_a_second_device_waits_for_its_person_and_begins_anew_when_they_say_so(server: Running) -> None:
    ann, bob = await people(server, 2)
    phone = await another_device(server, ann)
    async with online(server, bob) as b, online(server, ann) as a:
        dialog = await direct(a, bob)
        await a.send(dialog, b"old")
        async with online(server, phone, standing=Standing.UNVERIFIED) as p:
            p.submit(Send(0, dialog, 0, b"new"))
            p.encryption.start_new_identity()
            await p.wait_until(lambda: p.encryption.standing is Standing.LISTED)
            await b.wait_until(lambda: said(b, dialog) == [b"old", b"new"])
            await b.send(dialog, b"to the phone")
            await p.wait_until(lambda: said(p, dialog)[1:] == [b"new", b"to the phone"])
            message = p.view.dialogs[dialog].message(2)
            assert message is not None
            assert (message.payload, message.unreadable) == (b"", Reason.UNKNOWN_SESSION)
        await a.wait_until(lambda: a.encryption.standing is Standing.UNVERIFIED)
