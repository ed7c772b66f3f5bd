"""The mover: whatever happens in whatever step, the archive ends with what the journal has, and no less is erased."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import pytest

from protocol import bodies
from protocol.bodies import TimelineEventRaw, tag_of
from protocol.dialog_types import DialogType
from server.config.settings import EraserSettings
from server.startup_error import StartupError
from server.writing import mover as mover_module
from server.writing.dialog_purge import DialogPurge
from server.writing.mover import BACKOFF_MAX_S, INTERVAL_S, Mover
from storage.archive import Archive
from storage.backlog import ArchiveBacklog
from storage.cql.archive import CqlArchive
from storage.cql.driver import CqlServer
from storage.local.archive import LocalArchive
from storage.postgres import backlog as module
from storage.postgres.archived_timelines import ArchivedTimelines
from storage.postgres.backlog import PostgresBacklog
from storage.postgres.deleted_dialogs import PostgresDeletedDialogs
from storage.postgres.timelines import PostgresTimelines
from storage.rows import TimelineRow
from storage.unavailable import StorageUnavailableError
from tests.support.archiving import archived_rows, drop_rows, journal_rows, lose_history
from tests.support.clock import ManualClock
from tests.support.harness import running
from tests.support.world import Person, World, edit, message, reaction

pytestmark = pytest.mark.anyio

PAGE_ROWS = 3
STEPS = {"take", "read_horizon", "read_page", "write", "advance", "list_erasures", "erase", "forget_erasures"}


class Trace:
    """Lists the calls of both stores. One fails, before or after it is done: `fails_at` or `fails_on` says which."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.fails_at = -1
        self.fails_on = ""
        self.done_before = False

    async def call(self, name: str, work: Any) -> Any:
        self.calls.append(name)
        fails = len(self.calls) - 1 == self.fails_at or name == self.fails_on
        if fails and not self.done_before:
            work.close()
            raise StorageUnavailableError(name)
        result = await work
        if fails:
            raise StorageUnavailableError(name)
        return result


class TracedBacklog:
    """A backlog, traced."""

    def __init__(self, real: ArchiveBacklog, trace: Trace) -> None:
        self._real = real
        self._trace = trace

    def __getattr__(self, name: str) -> Any:
        return lambda *args: self._trace.call(name, getattr(self._real, name)(*args))

    async def release(self) -> None:
        await self._real.release()


class TracedArchive(LocalArchive):
    """An archive, traced. `largest` is what one write had."""

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self._trace = trace
        self.largest = 0

    async def write(self, rows: Sequence[TimelineRow], *, epoch: int = 0) -> None:
        self.largest = max(self.largest, len(rows))
        await self._trace.call("write", super().write(rows, epoch=epoch))

    async def erase(self, keys: Sequence[tuple[bytes, int]], *, epoch: int = 0) -> None:
        await self._trace.call("erase", super().erase(keys, epoch=epoch))


class SlowArchive:
    """The same archive for somebody whose writes wait at a gate."""

    def __init__(self, real: Archive) -> None:
        self._real = real
        self.gate = asyncio.Event()
        self.entered = asyncio.Event()

    async def write(self, rows: Sequence[TimelineRow], *, epoch: int = 0) -> None:
        self.entered.set()
        await self.gate.wait()
        await self._real.write(rows, epoch=epoch)

    async def erase(self, keys: Sequence[tuple[bytes, int]], *, epoch: int = 0) -> None:
        await self._real.erase(keys, epoch=epoch)


@pytest.fixture
def trace() -> Trace:
    return Trace()


@pytest.fixture
def archive(trace: Trace) -> TracedArchive:
    return TracedArchive(trace)


@pytest.fixture
async def backlogs(database_url: str) -> AsyncIterator[list[PostgresBacklog]]:
    made = [PostgresBacklog(database_url, statement_timeout_s=30.0, page_rows_max=PAGE_ROWS) for _ in range(2)]
    yield made
    for backlog in made:
        await backlog.release()


@pytest.fixture
def mover(backlogs: list[PostgresBacklog], archive: TracedArchive, trace: Trace, clock: ManualClock) -> Mover:
    return Mover(TracedBacklog(backlogs[0], trace), archive, clock)


def covered_ms(mover: Mover) -> int:
    assert mover._covered_ms is not None
    return mover._covered_ms


async def talk(world: World) -> tuple[Person, Person, bytes]:
    """A conversation of ten rows, in which one is erased and so is what hangs on it."""
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    await world.flush(*(message(dialog, ann) for _ in range(5)))
    await world.flush(edit(dialog, ann, 2), reaction(dialog, bo, 2))
    await world.act(bodies.Deleted, dialog, ann, target=2)
    await world.journal.erase_due(2**50, limit=10)
    await world.say(dialog, bo)
    return ann, bo, dialog


async def move_all(mover: Mover) -> None:
    """Rounds until one has moved all, by a node that starts again after each fault and waits for its turn."""
    async with asyncio.timeout(20):
        while True:
            try:
                await mover.move()
                if (await mover._backlog.take()).held:
                    return
            except StorageUnavailableError:
                await mover._backlog.release()


async def test_all_that_lies_behind_the_horizon_is_archived(world: World, mover: Mover, archive: TracedArchive) -> None:
    await talk(world)
    await mover.move()
    assert await archived_rows(world, archive) == await journal_rows(world)
    assert (mover.rows, archive.largest) == (10, PAGE_ROWS)
    await mover.move()
    assert mover.rows == 10


async def test_what_commits_late_is_archived_with_the_next_round(
    world: World, mover: Mover, archive: TracedArchive
) -> None:
    ann, bo = await world.people(2)
    late, soon = await world.create(DialogType.DIRECT, ann, bo), await world.create(DialogType.SELF, ann)
    async with world.pool.acquire() as slow, slow.transaction():
        await world.over(slow).say(late, bo)
        await world.say(soon, ann)
        await mover.move()
        assert len(await archived_rows(world, archive)) == 2
    await mover.move()
    assert await archived_rows(world, archive) == await journal_rows(world)


async def test_a_fault_in_any_step_loses_nothing(
    world: World, mover: Mover, archive: TracedArchive, trace: Trace
) -> None:
    """The calls of a round without a fault are listed; then each of them fails, before or after it is done."""
    ann, _, dialog = await talk(world)

    async def add_more() -> None:
        (said, *_) = await world.flush(*(message(dialog, ann) for _ in range(2 * PAGE_ROWS)))
        await mover.move()
        await world.act(bodies.Deleted, dialog, ann, target=said.seq)
        await world.flush(*(message(dialog, ann) for _ in range(PAGE_ROWS)))
        trace.calls.clear()

    await add_more()
    await mover.move()
    calls = list(trace.calls)
    assert set(calls) == STEPS | {"list_sealed_left"}
    for at in range(2 * len(calls)):
        await add_more()
        trace.fails_at, trace.done_before = at // 2, at % 2 == 1
        await move_all(mover)
        trace.fails_at = -1
        assert await archived_rows(world, archive) == await journal_rows(world), calls[at // 2]
        assert (await mover._backlog.take()).erasures == 0


async def test_what_hangs_on_an_erased_message_is_erased_though_it_is_in_the_archive_alone(
    world: World, mover: Mover, archive: TracedArchive
) -> None:
    ann, bo, dialog = await talk(world)
    await world.flush(*(edit(dialog, ann, 3, "x" * 50_000) for _ in range(4)))
    await world.flush(reaction(dialog, bo, 3), edit(dialog, ann, 4))
    await mover.move()
    await drop_rows(world, dialog, 11, 16)
    await world.act(bodies.Deleted, dialog, ann, target=3)
    await mover.move()
    tags = await archive.read_tags(dialog, 11, 16)
    assert [seq for seq, tag in tags.items() if tag == tag_of(bodies.Erased)] == [11, 12, 13, 14, 15]
    assert await world.pool.fetchval("SELECT count(*) FROM archive_erasures") == 0


async def test_an_erasure_hides_no_row_that_gets_a_number_of_a_lost_history(
    world: World, mover: Mover, archive: TracedArchive
) -> None:
    """Numbers are given out again after a restore; of the lost history they were reactions to a message."""
    ann, bo, dialog = await talk(world)
    await world.flush(*(reaction(dialog, bo, 3) for _ in range(4)))
    await mover.move()
    await lose_history(world, dialog, 10)
    await world.act(bodies.Deleted, dialog, ann, target=3)
    await mover.move()
    await world.flush(*(message(dialog, ann) for _ in range(3)))
    await mover.move()
    assert await archived_rows(world, archive) == await journal_rows(world)


async def test_all_that_hangs_on_an_erased_message_is_erased_however_much_it_is(
    world: World, mover: Mover, archive: TracedArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what lies behind a page of what is erased already, or of a lost history."""
    monkeypatch.setattr(mover_module, "ARCHIVE_ROWS_MAX", 2)
    ann, bo, dialog = await talk(world)
    await world.flush(*(reaction(dialog, bo, 3) for _ in range(7)))
    await mover.move()
    await archive.erase([(dialog, 16), (dialog, 17)])
    await lose_history(world, dialog, 15)
    await drop_rows(world, dialog, 11, 15)
    await world.say(dialog, ann)
    await world.act(bodies.Deleted, dialog, ann, target=3)
    await mover.move()
    tags = await archive.read_tags(dialog, 11, 17)
    assert [seq for seq, tag in tags.items() if tag == tag_of(bodies.Erased)] == [11, 12, 13, 14, 15]


async def delete(world: World, author: Person, dialog: bytes, seq: int) -> None:
    await world.act(bodies.Deleted, dialog, author, target=seq)


async def expire(world: World, _author: Person, dialog: bytes, seq: int) -> None:
    await world.pool.execute("UPDATE journal SET expires_at_ms = 1 WHERE dialog_id = $1 AND seq = $2", dialog, seq)
    await world.journal.erase_due(2, limit=10)


async def retain(world: World, _author: Person, dialog: bytes, _seq: int) -> None:
    await world.pool.execute("SELECT set_retention($1, 1, 0)", dialog)
    await world.pool.execute("UPDATE dialogs SET message_retention_days = 1 WHERE dialog_id = $1", dialog)
    while (await world.journal.erase_due(2**50, limit=10)).more:
        pass


async def delete_dialog(world: World, _author: Person, dialog: bytes, _seq: int) -> None:
    await world.pool.execute("UPDATE heads SET deleted = true WHERE dialog_id = $1", dialog)
    await world.pool.execute("INSERT INTO deleted_dialogs (dialog_id, grace_from_ms) VALUES ($1, 0)", dialog)


async def delete_person(world: World, author: Person, _dialog: bytes, _seq: int) -> None:
    """As the purge of people leaves them: their `self` dialog is deleted."""
    await world.chooses(author, None)
    await world.pool.execute("SELECT purge_person(1, $1, 100)", author.principal)


async def purge_author(world: World, author: Person, _dialog: bytes, _seq: int) -> None:
    """As the purge of people leaves a dialog with others."""
    await delete_person(world, author, _dialog, _seq)
    while await world.pool.fetchval("SELECT author FROM erase_authored($1, 10)", 2**50):
        pass


Erase = Callable[[World, Person, bytes, int], Awaitable[None]]


async def check_who_wakes_late(
    world: World, backlogs: list[PostgresBacklog], archive: Archive, clock: ManualClock, erase: Erase
) -> None:
    """A mover has read rows, and writes them after another one, and the purge, have erased them in the archive."""
    _, bo, dialog = await talk(world)
    dialog = await world.create(DialogType.SELF, bo) if erase is delete_person else dialog
    await Mover(backlogs[0], archive, clock).move()
    (said,) = await world.flush(message(dialog, bo, "to be erased"))
    late = SlowArchive(archive)
    sleeping = asyncio.ensure_future(Mover(backlogs[0], late, clock).move())  # type: ignore[arg-type]
    await late.entered.wait()
    await backlogs[0].release()  # what PostgreSQL does to who is silent
    await erase(world, bo, dialog, said.seq)
    await move_all(Mover(backlogs[1], archive, clock))
    purge = DialogPurge(PostgresDeletedDialogs(world.pool), archive, EraserSettings(), clock)
    while await purge.purge_some():
        pass
    late.gate.set()
    with pytest.raises(StorageUnavailableError):
        await sleeping
    assert await archived_rows(world, archive) == await journal_rows(world)
    left = {(row.event.dialog, row.event.seq): row.tag for row in await archived_rows(world, archive)}
    gone = None if erase in {delete_dialog, delete_person} else tag_of(bodies.Erased)
    assert left.get((dialog, said.seq)) == gone
    assert (await backlogs[1].take()).erasures == 0


each_erasure = pytest.mark.parametrize("erase", [delete, expire, retain, delete_dialog, delete_person, purge_author])


@each_erasure
async def test_who_wakes_late_undoes_no_erasure(
    world: World, backlogs: list[PostgresBacklog], archive: TracedArchive, clock: ManualClock, erase: Erase
) -> None:
    await check_who_wakes_late(world, backlogs, archive, clock, erase)


@pytest.mark.cassandra
@each_erasure
async def test_who_wakes_late_undoes_no_erasure_on_a_cql_server(
    world: World, backlogs: list[PostgresBacklog], cql_server: CqlServer, clock: ManualClock, erase: Erase
) -> None:
    archive = CqlArchive(cql_server, read_timeout_s=20.0, write_timeout_s=20.0)
    await check_who_wakes_late(world, backlogs, archive, clock, erase)
    await archive.close()


async def test_two_movers_at_once_harm_nothing(
    world: World,
    backlogs: list[PostgresBacklog],
    archive: TracedArchive,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_TRY_LOCK", "SELECT true")
    ann, bo = await world.people(2)
    dialogs = [await world.create(DialogType.DIRECT, ann, bo), await world.create(DialogType.SELF, ann)]
    done = asyncio.Event()

    async def write(dialog: bytes) -> None:
        for _ in range(25):
            (said, _) = await world.flush(message(dialog, ann), message(dialog, ann), wait=True)
            await world.flush(reaction(dialog, ann, said.seq), wait=True)
            if said.seq % 2:
                await world.act(bodies.Deleted, dialog, ann, target=said.seq)
            await world.journal.erase_due(2**50, limit=5)

    async def keep_moving(mover: Mover) -> None:
        while not done.is_set():
            await mover.move()

    moving = [asyncio.ensure_future(keep_moving(Mover(backlog, archive, clock))) for backlog in backlogs]
    await asyncio.gather(*(write(dialog) for dialog in dialogs))
    done.set()
    await asyncio.gather(*moving)
    for backlog in backlogs:
        await Mover(backlog, archive, clock).move()
    assert await archived_rows(world, archive) == await journal_rows(world)


async def test_with_the_archive_away_it_holds_two_pages_and_then_catches_up(
    world: World, mover: Mover, archive: TracedArchive, trace: Trace
) -> None:
    _, bo, dialog = await talk(world)
    for _ in range(4):
        await world.flush(*(message(dialog, bo) for _ in range(2 * PAGE_ROWS)))
        trace.calls.clear()
        trace.fails_at = 4  # its first write, whatever lies before
        with pytest.raises(StorageUnavailableError):
            await mover.move()
        assert trace.calls.count("read_page") <= 2
        await mover._backlog.release()
    trace.fails_at = -1
    await mover.move()
    assert await archived_rows(world, archive) == await journal_rows(world)


async def test_it_backs_off_says_so_once_and_goes_on(
    world: World, mover: Mover, trace: Trace, caplog: pytest.LogCaptureFixture
) -> None:
    await talk(world)
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        trace.calls.clear()
        trace.fails_at = 0 if len(pauses) < 9 else -1
        if len(pauses) == 10:
            raise asyncio.CancelledError

    mover._sleep = sleep
    trace.fails_at = 0
    with caplog.at_level(logging.WARNING), pytest.raises(asyncio.CancelledError):
        await mover.run()
    assert pauses[:6] == [INTERVAL_S * 2**at for at in (0, 1, 2, 3, 4)] + [BACKOFF_MAX_S]
    assert pauses[8:] == [BACKOFF_MAX_S, INTERVAL_S]
    assert len(caplog.records) == 2
    assert mover.rows == 10


async def test_days_without_the_archive_do_not_end_it(mover: Mover, trace: Trace) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        raise asyncio.CancelledError

    mover._sleep = sleep
    mover._failures = 10_000
    trace.fails_at = 0
    with pytest.raises(asyncio.CancelledError):
        await mover.run()
    assert pauses == [BACKOFF_MAX_S]


async def test_it_says_how_far_behind_it_is(world: World, mover: Mover, clock: ManualClock) -> None:
    assert mover.lag_s == 0.0
    await talk(world)
    await mover.move()
    began_ms = covered_ms(mover)
    async with world.pool.acquire() as slow, slow.transaction():
        await slow.execute("SELECT pg_current_xact_id()")
        for _ in range(2):
            await mover.move()
        held_ms = covered_ms(mover)
        for _ in range(2):
            await mover.move()
        assert covered_ms(mover) == held_ms
    await mover.move()
    await mover.move()
    assert covered_ms(mover) > held_ms >= began_ms
    clock.advance(covered_ms(mover) / 1000 + 60 - clock.wall_ms() / 1000)
    assert mover.lag_s == pytest.approx(60, abs=0.01)


async def test_a_node_with_an_archive_moves_its_journal_there(database_url: str) -> None:
    archive = LocalArchive()
    async with running(database_url, archive=archive) as server:
        await talk(server.world)
        assert server.node.mover is not None
        async with asyncio.timeout(20):
            while server.node.mover.rows < 10:
                await server.world.pool.fetchval("SELECT 1")
        assert await archived_rows(server.world, archive) == await journal_rows(server.world)


async def test_a_database_that_was_served_with_an_archive_is_not_served_without_one(database_url: str) -> None:
    """Rows may be in the archive only, and nobody would send it what is erased."""
    async with running(database_url, archive=LocalArchive()) as server:
        assert server.node.mover is not None
        async with asyncio.timeout(20):
            while server.node.mover.lag_s == 0.0:
                await server.world.pool.fetchval("SELECT 1")
    with pytest.raises(StartupError, match="cql_hosts"):
        async with running(database_url):
            pass


@pytest.mark.cassandra
async def test_a_journal_is_moved_to_a_cql_server_by_two_who_fail_and_read_from_there(
    world: World, backlogs: list[PostgresBacklog], trace: Trace, clock: ManualClock, request: pytest.FixtureRequest
) -> None:
    """The first stops after a write that nobody has noted; the second goes on from there, and erases."""
    archive = CqlArchive(request.getfixturevalue("cql_server"), read_timeout_s=20.0, write_timeout_s=20.0)
    ann, bo, dialog = await talk(world)
    await world.flush(*(message(dialog, ann, "x" * 5000) for _ in range(50)))
    trace.fails_on = "advance"
    with pytest.raises(StorageUnavailableError, match="advance"):
        await Mover(TracedBacklog(backlogs[0], trace), archive, clock).move()
    await backlogs[0].release()
    await world.act(bodies.Deleted, dialog, ann, target=20)
    await move_all(Mover(backlogs[1], archive, clock))
    assert await archived_rows(world, archive) == await journal_rows(world)

    async def read_all(reads: PostgresTimelines) -> list[TimelineEventRaw]:
        events: list[TimelineEventRaw] = []
        while page := await reads.read_events(bo.principal, [(dialog, len(events) + 1, 99)], limit=99):
            events += page
        return events

    before = await read_all(world.timelines)
    await drop_rows(world, dialog, 1, 40)
    assert await read_all(ArchivedTimelines(world.pool, archive, timeout_s=30.0)) == before
    await archive.close()
