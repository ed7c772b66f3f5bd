"""The database is gone, or full, in the middle of a conversation: sends wait, then say so, and arrive once in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import psutil
import pytest

from protocol.bodies import TimelineEvent
from protocol.commands import Authenticate, Create, Heartbeat, History, Roster, Send, Sync
from protocol.dialog_types import DialogType
from protocol.events import HeartbeatReply
from protocol.replies import Acked, Authenticated, Failed, Synced
from server.config.settings import PipelineSettings
from storage.embedded.cluster import EmbeddedPostgres
from storage.postgres.journal import PostgresJournal, Writes
from storage.postgres.migrate import migrate
from storage.unavailable import NothingWrittenError
from tchat.actions import ConnectionState, Sent
from tchat.shell import Client
from tests.support.harness import Running, Wire, configured, running
from tests.support.world import Person

pytestmark = pytest.mark.anyio

_PATIENT = PipelineSettings()
_IMPATIENT = PipelineSettings(retry_total_s=0.1)


@pytest.fixture(scope="module")
def own_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL that these tests may kill; it runs again after each."""
    with EmbeddedPostgres(tmp_path_factory.mktemp("mortal")) as mortal:
        asyncio.run(migrate(mortal.url))
        yield mortal


@pytest.fixture
async def patient(own_postgres: EmbeddedPostgres) -> AsyncIterator[Running]:
    """A node that tries for long."""
    async with running(own_postgres.url, configured(pipeline=_PATIENT)) as node:
        yield node


@pytest.fixture
async def impatient(own_postgres: EmbeddedPostgres) -> AsyncIterator[Running]:
    """A node that soon says that it cannot."""
    async with running(own_postgres.url, configured(pipeline=_IMPATIENT)) as node:
        yield node


async def stored(postgres: EmbeddedPostgres, dialog: bytes) -> list[tuple[int, int]]:
    """`(seq, n)` of a dialog after its creation, read by nobody's old connection."""
    connection = await asyncpg.connect(postgres.url)
    rows = await connection.fetch("SELECT seq, n FROM journal WHERE dialog_id::text = $1 ORDER BY seq", _text(dialog))
    await connection.close()
    return [(row[0], row[1]) for row in rows][1:]


def _text(dialog: bytes) -> str:
    hexed = dialog.hex()
    return "-".join((hexed[:8], hexed[8:12], hexed[12:16], hexed[16:20], hexed[20:]))


async def until_seq(wire: Wire, last: int) -> list[int]:
    """The numbers of the events that come, up to `last`."""
    seqs: list[int] = []
    while last not in seqs:
        seqs.append((await wire.until(TimelineEvent)).seq)
    return seqs


@pytest.mark.parametrize("acked_before", [0, 1, 7])
async def test_sends_wait_for_a_killed_postgres(
    own_postgres: EmbeddedPostgres, patient: Running, acked_before: int
) -> None:
    ann, bo = await patient.world.people(2)
    dialog = await patient.world.create(DialogType.DIRECT, ann, bo)
    async with patient.live(ann) as a, patient.live(bo) as b:
        for n in range(10, 30):
            await a.send(Send(n, dialog, n, b"whatever happens"))
        acks = [await a.until(Acked) for _ in range(acked_before)]
        await asyncio.to_thread(own_postgres.kill)
        await asyncio.to_thread(own_postgres.start)
        acks += [await a.until(Acked) for _ in range(20 - acked_before)]
        assert [(ack.seq, ack.n) for ack in acks] == [(seq, seq + 8) for seq in range(2, 22)]
        assert await until_seq(b, 21) == list(range(2, 22))
    assert await stored(own_postgres, dialog) == [(ack.seq, ack.n) for ack in acks]


async def test_after_its_patience_the_server_says_so_and_goes_on_later(
    own_postgres: EmbeddedPostgres, impatient: Running
) -> None:
    ann, bo, cy = await impatient.world.people(3)
    dialog = await impatient.world.create(DialogType.DIRECT, ann, bo)
    async with impatient.live(ann) as a, impatient.connected() as c:
        assert isinstance(await c.ask(Authenticate(1, impatient.token(cy))), Authenticated)
        await asyncio.to_thread(own_postgres.kill)
        for n in (10, 11):
            await a.send(Send(n, dialog, n, b"later"))
        refused = [await a.until(Failed) for _ in range(2)]
        assert [failed.code for failed in refused] == ["unavailable", "earlier_first"]
        assert refused[0].retry_after_s is not None
        for command in (History(3, dialog), Roster(4, dialog), Create(5, 9, DialogType.DIRECT, [cy.principal])):
            assert (await a.ask(command)).code == "unavailable"
        assert (await c.ask(Sync(2))).code == "unavailable"
        await asyncio.to_thread(own_postgres.start)
        assert (await a.ask(Send(6, dialog, 11, b"later"))).code == "earlier_first"
        assert [(await a.ask(Send(n, dialog, n, b"later"))).seq for n in (10, 11, 10)] == [2, 3, 2]
        assert isinstance(await c.ask(Sync(3)), Synced)
    assert await stored(own_postgres, dialog) == [(2, 10), (3, 11)]


async def test_what_is_written_after_a_crash_is_past_every_position(
    own_postgres: EmbeddedPostgres, patient: Running
) -> None:
    """A transaction that was refused need leave no trace on disk, and then its id is given out again after a crash."""
    ann, bo = await patient.world.people(2)
    dialog = await patient.world.create(DialogType.DIRECT, ann, bo)
    (writer,) = [it for it in psutil.Process(own_postgres.pid).children() if "walwriter" in " ".join(it.cmdline())]
    writer.suspend()  # it would soon leave that trace
    await refuse_some(patient)
    async with patient.live(bo) as b:
        at_sync = b.position
        await refuse_some(patient)
        await patient.node.horizon.advance()
        await asyncio.to_thread(own_postgres.kill)
        await b.send(Heartbeat(0))
        positions = [at_sync, (await b.until(HeartbeatReply)).position]
    await asyncio.to_thread(own_postgres.start)
    async with patient.live(ann) as a:
        said = {(await a.ask(Send(n, dialog, n, b"back again"))).seq for n in range(10, 30)}
    for position in positions:
        async with patient.live(bo, position=position) as b:
            assert said <= {message.seq for message in b.caught_up if isinstance(message, TimelineEvent)}


async def refuse_some(server: Running) -> None:
    """Transactions that come to nothing."""
    for _ in range(5):
        with pytest.raises(asyncpg.UniqueViolationError):
            await server.world.pool.execute("INSERT INTO tenants VALUES (1, 'again')")


class FullDisk:
    """Writes that fail while `full`, as PostgreSQL's do when it cannot extend a file."""

    def __init__(self, writes: Writes) -> None:
        self.full = False
        self.refused = asyncio.Event()
        self._writes = writes

    async def fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        if self.full:
            self.refused.set()
            raise NothingWrittenError("could not extend file: No space left on device")
        return await self._writes.fetch(query, *arguments)


async def test_a_full_disk_refuses_writes_for_now_and_nothing_else(impatient: Running) -> None:
    journal = impatient.node.journal
    assert isinstance(journal, PostgresJournal)
    journal._writes = disk = FullDisk(journal._writes)
    ann, bo = await impatient.world.people(2)
    dialog = await impatient.world.create(DialogType.DIRECT, ann, bo)
    async with impatient.live(ann) as a:
        disk.full = True
        assert (await a.ask(Send(3, dialog, 10, b"no room"))).code == "unavailable"
        assert disk.refused.is_set()
        assert [event.seq for event in (await a.ask(History(4, dialog))).events] == [1]
        disk.full = False
        assert (await a.ask(Send(5, dialog, 10, b"no room"))).seq == 2


async def test_a_client_keeps_its_order_over_a_full_disk(impatient: Running) -> None:
    journal = impatient.node.journal
    assert isinstance(journal, PostgresJournal)
    journal._writes = disk = FullDisk(journal._writes)
    ann, bo = await impatient.world.people(2)
    dialog = await impatient.world.create(DialogType.DIRECT, ann, bo)
    acked: list[int] = []
    async with Client(impatient.url, _source(impatient, ann), on_event=lambda event: _note(event, acked)) as client:
        await client.wait_until(lambda: client.state is ConnectionState.LIVE)
        numbers = [client.submit(Send(0, dialog, 0, b"%d" % index)) for index in range(10)]
        await client.wait_until(lambda: len(acked) >= 3)
        disk.full = True
        numbers += [client.submit(Send(0, dialog, 0, b"%d" % index)) for index in range(10, 20)]
        await disk.refused.wait()
        disk.full = False
        await client.wait_until(lambda: not client.pending())
    rows = await impatient.world.pool.fetch("SELECT n FROM journal WHERE dialog_id = $1 ORDER BY seq", dialog)
    assert [row[0] for row in rows][1:] == numbers


def _note(event: object, acked: list[int]) -> None:
    if isinstance(event, Sent):
        acked.append(event.n)


def _source(server: Running, person: Person) -> Any:
    async def token(_fresh: bool) -> str:
        return server.token(person)

    return token
