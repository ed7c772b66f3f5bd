"""The server's database is restored from a backup: people who encrypt go on with all that it has lost."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from urllib.parse import urlsplit

import asyncpg
import pytest

from protocol.commands import Add, Create
from protocol.dialog_types import DialogType
from storage.embedded.cluster import EmbeddedPostgres
from tchat.encryption.notices import Standing
from tchat.memory_store import MemoryStore
from tchat.shell import Client
from tests.support.harness import Running, configured, running
from tests.support.world import Person
from tests.tchat.encryption.test_clients import another_device, direct, online, people, said

pytestmark = pytest.mark.anyio

_END_ALL = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1"


@pytest.fixture
async def backup(postgres: EmbeddedPostgres, database_url: str) -> AsyncIterator[Backup]:
    made = Backup(await asyncpg.connect(postgres.url), postgres, urlsplit(database_url).path[1:])
    yield made
    await made.drop()


class Backup:
    """A copy of a database, as it was when it was made."""

    def __init__(self, server: asyncpg.Connection, postgres: EmbeddedPostgres, name: str) -> None:
        self._server, self._name = server, name
        self.url = postgres.database_url(f"{name}_kept")

    async def make(self) -> None:
        """Copy the database, to which nobody is connected then."""
        await self._server.execute(_END_ALL, self._name)
        await self._server.execute(f'CREATE DATABASE "{self._name}_kept" TEMPLATE "{self._name}"')
        connection = await asyncpg.connect(self.url)
        await connection.execute("UPDATE deployment SET system_identifier = 7")  # as that of another cluster
        await connection.close()

    async def drop(self) -> None:
        """Delete the copy."""
        await self._server.execute(f'DROP DATABASE IF EXISTS "{self._name}_kept" WITH (FORCE)')
        await self._server.close()


class Talk:
    """People with a store each, who write to a group and read all that is written."""

    def __init__(self, members: Sequence[Person]) -> None:
        self.members = members
        self.stores = {one.device: MemoryStore() for one in members}
        self.group = b""

    @contextlib.asynccontextmanager
    async def online(self, server: Running, *present: Person) -> AsyncIterator[list[Client]]:
        """The clients of these people."""
        async with contextlib.AsyncExitStack() as stack:
            yield [await stack.enter_async_context(online(server, one, self.stores[one.device])) for one in present]

    async def everybody_writes(self, clients: Sequence[Client], word: bytes) -> None:
        """Each of them writes, and each reads what the others wrote."""
        texts = [word + b" %d" % number for number in range(len(clients))]
        for client, text in zip(clients, texts, strict=True):
            await client.send(self.group, text)
        for client in clients:
            await client.wait_until(lambda client=client: set(texts) <= set(said(client, self.group)))  # type: ignore[misc]


async def test_what_the_backup_lacks_stops_no_conversation(database_url: str, backup: Backup) -> None:
    async with running(database_url, configured()) as server:
        ann, bob, cem, dee = members = await people(server, 4)
        talk = Talk(members)
        async with talk.online(server, *members) as clients:
            created = await clients[0].perform(Create(0, 0, DialogType.GROUP, [bob.principal, cem.principal], "team"))
            talk.group, pair = created.dialog, await direct(clients[0], bob)
            await talk.everybody_writes(clients[:3], b"before")
    await backup.make()
    async with running(database_url, configured()) as server:
        tablet = await another_device(server, ann)
        async with talk.online(server, *members) as clients:
            await clients[1].send(pair, b"under a session that nobody has handed on, says the backup")
            await clients[0].perform(Add(0, talk.group, 0, [dee.principal]))
            own = clients[0].encryption.people
            identity, recovery_key = own.identity, own.recovery_key
            assert identity is not None
            assert recovery_key is not None
            async with online(server, tablet, standing=Standing.UNVERIFIED) as linked:
                linked.encryption.keep_identity(identity, recovery_key)
                await linked.wait_until(lambda: linked.encryption.standing is Standing.LISTED)
                await linked.send(talk.group, b"from the tablet")
            await talk.everybody_writes(clients, b"lost")
    async with running(backup.url, configured()) as server, talk.online(server, ann, bob, cem) as clients:
        for word in (b"one", b"two"):
            await talk.everybody_writes(clients, word)
        await clients[1].send(pair, b"last")
        await clients[0].wait_until(lambda: said(clients[0], pair)[-1:] == [b"last"])
