"""Devices compare symbols over a real node: a fresh one becomes one of its person's, and reads what is old, too."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import TypeVar

import anyio
import pytest

from protocol.commands import History
from tchat.actions import ConnectionState, Notification
from tchat.crypto.state import Table
from tchat.crypto.verification import Phase
from tchat.encryption.notices import (
    BackupRestored,
    IdentityStarted,
    NotRecovered,
    NowReadable,
    Standing,
    VerificationStep,
)
from tchat.memory_store import MemoryStore
from tchat.shell import Client
from tests.support.harness import Running, configured, running
from tests.support.world import Person
from tests.tchat.encryption.test_clients import another_device, direct, people, said

pytestmark = pytest.mark.anyio

T = TypeVar("T")
_BACKED_UP = "SELECT count(*) FROM backups WHERE principal_id = $1"


@pytest.fixture
async def server(database_url: str) -> AsyncIterator[Running]:
    """A node with the default limits."""
    async with running(database_url, configured()) as node:
        yield node


class Device:
    """A client, and what its person was shown last."""

    def __init__(self, server: Running, person: Person) -> None:
        self.notices: list[Notification] = []

        async def token(_fresh: bool) -> str:
            return server.token(person)

        self.store = MemoryStore()
        self.client = Client(server.url, token, store=self.store, on_event=self.notices.append)

    async def until(self, standing: Standing) -> None:
        await self.client.wait_until(lambda: self.client.state is ConnectionState.LIVE)
        await self.client.wait_until(lambda: self.client.encryption.standing is standing)

    def shown(self, kind: type[T]) -> T | None:
        """The newest notice of a kind."""
        return next((each for each in reversed(self.notices) if isinstance(each, kind)), None)

    async def step(self, phase: Phase) -> VerificationStep:
        """The verification stands there."""

        def stands() -> bool:
            step = self.shown(VerificationStep)
            return step is not None and step.phase is phase

        await self.client.wait_until(stands)
        found = self.shown(VerificationStep)
        assert found is not None
        return found


@contextlib.asynccontextmanager
async def online(server: Running, person: Person, standing: Standing = Standing.LISTED) -> AsyncIterator[Device]:
    """A fresh device of a person, once it is this to others."""
    with anyio.fail_after(30):
        device = Device(server, person)
        async with device.client:
            await device.until(standing)
            yield device


async def compare(asks: Device, asked: Device, principal: bytes, dialog: bytes | None = None) -> None:
    """One asks the other; both show the same symbols, and their people say so."""
    transaction = asks.client.encryption.verifying.ask(principal, dialog)
    assert transaction is not None
    assert (await asked.step(Phase.ASKED)).transaction == transaction
    asked.client.encryption.verifying.accept(transaction)
    await asks.step(Phase.READY)
    asks.client.encryption.verifying.compare_symbols(transaction)
    shown = [(await device.step(Phase.COMPARING)).symbols for device in (asks, asked)]
    assert shown[0] == shown[1] is not None
    for device in (asks, asked):
        device.client.encryption.verifying.confirm(transaction)
    for device in (asks, asked):
        await device.step(Phase.DONE)


async def test_a_fresh_device_is_verified_and_reads_what_is_new_and_what_is_old(server: Running) -> None:
    ann, bob = await people(server, 2)
    laptop = await another_device(server, ann)
    async with online(server, ann) as a, online(server, bob) as b:
        dialog = await direct(a.client, bob)
        await a.client.send(dialog, b"of Ann, old")
        await b.client.send(dialog, b"of Bob, old")
        await a.client.wait_until(lambda: len(said(a.client, dialog)) == 2)
        async with online(server, laptop, Standing.UNVERIFIED) as new:
            await new.client.wait_until(lambda: len(said(new.client, dialog)) == 2)
            assert said(new.client, dialog) == [b"", b""]
            await compare(new, a, ann.principal)
            await new.until(Standing.LISTED)
            await new.client.wait_until(lambda: said(new.client, dialog) == [b"of Ann, old", b"of Bob, old"])
            await b.client.send(dialog, b"new")
            await new.client.wait_until(lambda: said(new.client, dialog)[2:] == [b"new"])
            await new.client.send(dialog, b"of the laptop")
            await a.client.wait_until(lambda: said(a.client, dialog)[3:] == [b"of the laptop"])
            await b.client.wait_until(lambda: said(b.client, dialog)[3:] == [b"of the laptop"])


async def test_the_recovery_key_alone_brings_the_identity_and_older_messages_back(server: Running) -> None:
    ann, bob = await people(server, 2)
    laptop = await another_device(server, ann)
    async with online(server, bob):
        async with online(server, ann) as a:
            started = a.shown(IdentityStarted)
            assert started is not None
            dialog = await direct(a.client, bob)
            await a.client.send(dialog, b"old")
            while await server.world.pool.fetchval(_BACKED_UP, ann.principal) < 2:  # the identity, and a session
                pass
        async with online(server, laptop, Standing.UNVERIFIED) as new:
            await new.client.wait_until(lambda: len(said(new.client, dialog)) == 1)
            assert said(new.client, dialog) == [b""]
            new.client.encryption.recover(started.recovery_key)
            await new.until(Standing.LISTED)
            await new.client.wait_until(lambda: said(new.client, dialog) == [b"old"])
            restored = new.shown(BackupRestored)
            assert restored is not None
            assert restored.refused == 0
            for session in new.store.keys(Table.INBOUND, b""):  # as if this device had never got them
                new.store.commit({(Table.INBOUND, session): None}, [])
            new.notices.clear()
            await new.client.request(History(0, dialog))
            await new.client.wait_until(lambda: new.shown(NowReadable) is not None)


async def test_a_wrong_recovery_key_brings_nothing_back(server: Running) -> None:
    ann, bob = await people(server, 2)
    laptop = await another_device(server, ann)
    async with online(server, ann), online(server, bob) as b:
        of_bob = b.shown(IdentityStarted)
        assert of_bob is not None
        async with online(server, laptop, Standing.UNVERIFIED) as new:
            new.client.encryption.recover(of_bob.recovery_key)
            await new.client.wait_until(lambda: new.shown(NotRecovered) is not None)
            assert new.client.encryption.standing is Standing.UNVERIFIED


async def test_two_people_verify_each_other(server: Running) -> None:
    ann, bob = await people(server, 2)
    async with online(server, ann) as a, online(server, bob) as b:
        dialog = await direct(a.client, bob)
        await a.client.send(dialog, b"hello")
        await b.client.wait_until(lambda: said(b.client, dialog) == [b"hello"])
        await compare(a, b, bob.principal, dialog)
        for device, other in ((a, bob), (b, ann)):
            pin = device.client.encryption.people.pin_of(other.principal)
            assert pin is not None
            assert pin.verified


async def test_who_is_verified_on_one_device_is_verified_on_the_other(server: Running) -> None:
    ann, bob = await people(server, 2)
    laptop = await another_device(server, ann)
    async with online(server, ann) as a, online(server, bob) as b, online(server, laptop, Standing.UNVERIFIED) as new:
        dialog = await direct(a.client, bob)
        await compare(new, a, ann.principal)
        await new.until(Standing.LISTED)
        await a.client.send(dialog, b"hello")
        await b.client.wait_until(lambda: said(b.client, dialog) == [b"hello"])
        await compare(a, b, bob.principal, dialog)
        await new.client.send(dialog, b"of the laptop, which has read the log of Bob")

        def is_verified() -> bool:
            pin = new.client.encryption.people.pin_of(bob.principal)
            return pin is not None and pin.verified

        await new.client.wait_until(is_verified)


async def test_symbols_that_differ_verify_nobody(server: Running) -> None:
    (ann,) = await people(server, 1)
    laptop = await another_device(server, ann)
    async with online(server, ann) as a, online(server, laptop, Standing.UNVERIFIED) as new:
        transaction = new.client.encryption.verifying.ask(ann.principal)
        assert transaction is not None
        await a.step(Phase.ASKED)
        a.client.encryption.verifying.accept(transaction)
        await new.step(Phase.READY)
        new.client.encryption.verifying.compare_symbols(transaction)
        await a.step(Phase.COMPARING)
        a.client.encryption.verifying.cancel(transaction)
        assert (await new.step(Phase.CANCELLED)).sentence == "The symbols differ: somebody may sit between you."
        assert new.client.encryption.standing is Standing.UNVERIFIED
