"""Clients that encrypt, against a real node: two fresh devices talk, and each shows what the other wrote."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import anyio
import pytest

from protocol.commands import Create
from protocol.dialog_types import DialogType
from tchat.actions import ConnectionState
from tchat.encryption.notices import Standing
from tchat.memory_store import MemoryStore
from tchat.shell import Client
from tchat.store import OutboxStore
from tests.support.harness import Running, configured, running
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
async def online(server: Running, person: Person, store: OutboxStore | None = None) -> AsyncIterator[Client]:
    """A client of a person that keeps keys, live, and listed as one of their devices."""

    async def token(_fresh: bool) -> str:
        return server.token(person)

    with anyio.fail_after(20):
        async with Client(server.url, token, store=store or MemoryStore(), on_event=lambda _event: None) as client:
            await client.wait_until(lambda: client.state is ConnectionState.LIVE)
            await client.wait_until(lambda: client.encryption.standing is Standing.LISTED)
            yield client


def said(client: Client, dialog: bytes) -> list[bytes]:
    view = client.view.dialogs.get(dialog)
    return [] if view is None else [one.payload for one in view.timeline() if hasattr(one, "payload")]


async def test_two_fresh_devices_talk_and_the_server_has_nothing_to_read(server: Running) -> None:
    ann, bob = await people(server, 2)
    async with online(server, ann) as a, online(server, bob) as b:
        dialog = (await a.perform(Create(0, 0, DialogType.DIRECT, [bob.principal]))).dialog
        await a.send(dialog, b"hello Bob")
        await b.wait_until(lambda: said(b, dialog) == [b"hello Bob"])
        await b.send(dialog, b"hello Ann")
        await a.wait_until(lambda: said(a, dialog) == [b"hello Bob", b"hello Ann"])
    rows = await server.world.pool.fetch("SELECT body FROM journal WHERE dialog_id = $1", dialog)
    assert len(rows) == 3
    assert not any(b"hello" in row["body"] for row in rows)
