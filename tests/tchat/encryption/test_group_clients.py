"""Groups of clients that encrypt, against a real node: who comes reads on, who goes reads no more, nobody else does."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator

import pytest

from protocol.commands import Accept, Add, Create, Invite, Promote, Remove
from protocol.dialog_types import DialogType
from protocol.ids import self_dialog_id
from server.config.settings import SyncSettings
from tchat.crypto.state import Table
from tchat.memory_store import MemoryStore
from tchat.shell import Client
from tests.support.harness import Running, configured, running
from tests.support.world import Person
from tests.tchat.encryption.test_clients import lose, online, people, said

pytestmark = pytest.mark.anyio


@pytest.fixture
async def server(database_url: str) -> AsyncIterator[Running]:
    """A node with the default limits."""
    async with running(database_url, configured()) as node:
        yield node


async def group(a: Client, *others: Person) -> bytes:
    """A new group of the client with these."""
    members = [other.principal for other in others]
    return (await a.perform(Create(0, 0, DialogType.GROUP, members, "Team"))).dialog


def has_read(client: Client, dialog: bytes, texts: list[bytes]) -> bool:
    return said(client, dialog) == texts


async def test_who_is_removed_reads_nothing_more(server: Running) -> None:
    ann, bob, cem = await people(server, 3)
    async with online(server, ann) as a, online(server, bob) as b, online(server, cem) as c:
        team = await group(a, bob, cem)
        await a.send(team, b"to both")
        await c.wait_until(lambda: said(c, team) == [b"to both"])
        removed = await a.perform(Remove(0, team, 0, cem.principal))
        await b.send(team, b"to Ann")
        await a.send(team, b"to Bob")
        await a.wait_until(lambda: said(a, team) == [b"to both", b"to Ann", b"to Bob"])
        await b.wait_until(lambda: said(b, team) == [b"to both", b"to Ann", b"to Bob"])
        assert said(c, team) == [b"to both"]
    query = "SELECT h.keys_seq FROM slices s JOIN shares h USING (device_id, share_id) WHERE s.to_device = $1"
    assert all(keys_seq < removed.seq for (keys_seq,) in await server.world.pool.fetch(query, cem.device))


async def test_a_promoted_member_adds_somebody_who_reads_and_writes(server: Running) -> None:
    ann, bob, cem, di = await people(server, 4)
    async with online(server, ann) as a, online(server, bob) as b, online(server, cem) as c, online(server, di) as d:
        team = await group(a, bob, cem)
        await a.send(team, b"before")
        await a.perform(Promote(0, team, 0, bob.principal))
        await b.perform(Add(0, team, 0, [di.principal]))
        await c.send(team, b"hello Di")
        await d.wait_until(lambda: said(d, team) == [b"hello Di"])
        await d.send(team, b"hello all")
        for client in (a, b, c):
            await client.wait_until(functools.partial(has_read, client, team, [b"before", b"hello Di", b"hello all"]))


async def test_who_did_not_hear_the_invitation_joins_with_it(database_url: str) -> None:
    async with running(database_url, configured(sync=SyncSettings(window_events=1))) as server:
        ann, bob, cem, di = await people(server, 4)
        store = MemoryStore()
        async with online(server, ann) as a:
            team = await group(a, bob, cem)
            async with online(server, di, store) as d:
                await a.perform(Invite(0, team, 0, di.principal))
                await d.wait_until(lambda: team in d.view.invitations)
                await d.send(self_dialog_id(di.principal), b"the only event that a fresh device hears")
            lose(store, Table.INVITATIONS)
            async with online(server, di, store) as d:
                await d.perform(Accept(0, team, 0))
                await a.send(team, b"hello Di")
                await d.wait_until(lambda: said(d, team) == [b"hello Di"])
