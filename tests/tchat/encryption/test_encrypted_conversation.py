"""The client that encrypts against a real node: what the server accepts, and what it has for those who read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import anyio
import pytest

from protocol.bodies import Posted, TimelineEvent, tag_of
from protocol.command_rules import Command
from protocol.commands import Create, Numbered, Remove, Send
from protocol.dialog_types import DialogType
from protocol.events import DialogState
from protocol.kinds import Kind
from protocol.replies import Failed, Reply
from tchat.actions import ConnectionState
from tchat.crypto.envelope import Opened, Place, Received
from tchat.crypto.machine import CryptoMachine
from tchat.crypto.olm import KnownDevice
from tchat.crypto.state import MemoryState
from tchat.encryption.device_sealer import DeviceSealer, Readers
from tchat.encryption.sealing import Clear, NotYet, Outcome
from tchat.shell import Client
from tchat.store import MemoryOutbox
from tests.support.harness import Running, configured, running
from tests.support.sealers import Behind
from tests.support.sealing import one_device_of
from tests.support.world import UNCHECKED, Person
from tests.tchat.crypto.devices import NOW_MS, VIEW, Phone

pytestmark = pytest.mark.anyio


class AllDevices:
    """Everybody in `phones` reads, as of the newest `keys_seq` that the server named."""

    def __init__(self, *phones: Phone) -> None:
        self.phones = list(phones)
        self._keys_seq = 0

    def readers_of(self, dialog: bytes) -> Readers | NotYet:  # noqa: ARG002
        return Readers(self._keys_seq, VIEW, [phone.known for phone in self.phones])

    def sign(self, intent: Numbered, row: Callable[[Numbered], bytes]) -> Outcome:  # noqa: ARG002
        return Clear()

    def answered(self, command: Command, reply: Reply) -> None:  # noqa: ARG002
        if isinstance(reply, Failed):
            self._keys_seq = reply.keys_seq or self._keys_seq

    def stale(self, dialog: bytes, made_at: int, failed: Failed) -> None:  # noqa: ARG002
        self._keys_seq = failed.keys_seq or self._keys_seq

    def heard(self, event: TimelineEvent | DialogState) -> None:
        pass

    def reset(self) -> None:
        pass


@pytest.fixture
async def server(database_url: str) -> AsyncIterator[Running]:
    """A node with the default limits."""
    async with running(database_url, configured()) as node:
        yield node


async def phone_of(server: Running) -> tuple[Person, Phone]:
    """A person with one device, which has keys."""
    person = await one_device_of(server.world)
    state = MemoryState()
    machine = CryptoMachine(state, person.principal, person.device, 1)
    phone = Phone(machine, state, KnownDevice(person.principal, person.device, machine.public))
    phone.upload()
    return person, phone


async def slices_for(server: Running, person: Person) -> list[bytes]:
    """The live slices that the server has for a device, in order."""
    rows = await server.world.pool.fetch(
        "SELECT c.body FROM slices c JOIN shares s USING (device_id, share_id)"
        " WHERE c.to_device = $1 AND s.live ORDER BY c.number",
        person.device,
    )
    return [row["body"] for row in rows]


async def test_a_removed_device_has_no_keys_of_what_is_written_after_it(server: Running) -> None:
    (ann, a), (bob, b), (cem, c) = [await phone_of(server) for _ in range(3)]
    a.connect(b, c)
    source, store = AllDevices(b, c), MemoryOutbox()
    sealer = DeviceSealer(a.machine, source, lambda: NOW_MS)

    async def token(_fresh: bool) -> str:
        return server.token(ann)

    events: list[TimelineEvent] = []

    def take(event: object) -> None:
        if isinstance(event, TimelineEvent) and isinstance(event.body, Posted):
            events.append(event)

    with anyio.fail_after(30):
        async with Client(server.url, token, store=store, encryption=Behind(sealer), on_event=take) as client:
            await client.wait_until(lambda: client.state is ConnectionState.LIVE)
            others = [bob.principal, cem.principal]
            group = (await client.perform(Create(0, 0, DialogType.GROUP, others, "T", signature=UNCHECKED))).dialog
            await client.send(group, b"to both")
            await client.perform(Remove(0, group, 0, cem.principal))
            source.phones.remove(c)
            await client.perform(Send(0, group, 0, b"to Bob"))
            await client.wait_until(lambda: len(events) == 2)

    def opened_by(phone: Phone) -> list[bytes | None]:
        outcomes = phone.machine.open([_received(event, a) for event in events])
        return [outcome.content if isinstance(outcome, Opened) else None for outcome in outcomes]

    for person, phone in ((bob, b), (cem, c)):
        phone.take(a, *await slices_for(server, person))
    assert opened_by(b) == [b"to both", b"to Bob"]
    assert opened_by(c) == [b"to both", None]


def _received(event: TimelineEvent, author: Phone) -> Received:
    body = event.body
    assert isinstance(body, Posted)
    header, known = body.header, author.known
    assert header.session is not None
    assert header.commitment is not None
    place = Place(
        event.dialog, known.principal, known.device, event.n, tag_of(Posted), int(Kind.MESSAGE), header.keys_seq
    )
    return Received(place, event.seq, body.payload, header.session, header.commitment, VIEW)
