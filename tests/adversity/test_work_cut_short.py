"""Work that one node does for all, cut short at each of its calls: the next holder ends where one without a fault does.

The scenario has something for each worker to do. It is put back as it was before each run, rows and archive, so that
the ends can be compared: the same rows, the same lists, the same lines of the audit. Nothing is lost or done twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import functools
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from protocol import bodies
from protocol.dialog_types import DialogType
from protocol.ids import new_id
from protocol.kinds import DAY_MS, Kind
from server.config.settings import EraserSettings, IdentitySettings
from server.identity.purge import Purge
from server.writing.author_purge import AuthorPurge
from server.writing.dialog_purge import DialogPurge
from server.writing.eraser import Eraser
from server.writing.mover import Mover
from server.writing.trimmer import Trimmer
from storage.archive import Archive
from storage.cql.archive import CqlArchive
from storage.cql.driver import CqlServer
from storage.local.archive import LocalArchive
from storage.postgres.backlog import PostgresBacklog
from storage.postgres.deleted_dialogs import PostgresDeletedDialogs
from storage.postgres.purged_authors import PostgresPurgedAuthors
from storage.postgres.trimming import PostgresTrimming
from storage.rows import ChangeEntry, TimelineRow
from storage.unavailable import StorageUnavailableError
from tests.support.archiving import archived_rows
from tests.support.clock import ManualClock
from tests.support.identity_people import NOW, IdentityStores, sign_in
from tests.support.world import World, edit, message, reaction

pytestmark = pytest.mark.anyio

IDLE_S = 1.0
"""A worker that pauses for so long has nothing more to do, or has met an error."""
NOT_OURS = ("applied_functions", "deployment", "dialog_types", "incarnations", "leases", "migrations", "tenants")
NUMBERS_THAT_DIFFER = ("xid", "moved", "covered_ms", "next_block", "newest", "audit_id")
"""Columns with stamps of the run itself."""
WORK = ("purge_authors", "move", "erase", "move", "purge_dialogs", "purge_people", "trim")
DAYS = (WORK, WORK, ("erase", "move"))
"""What comes to an end on each of these days; two lie between them."""
SETTINGS = EraserSettings(step_rows=4)


class Fault(enum.Enum):
    """How a call fails."""

    REFUSED = "it is not made"
    REPLY_LOST = "it is made, and its reply is lost"
    GONE = "it is made, and the process is gone"


class Faults:
    """Counts calls; one of them fails."""

    def __init__(self, at: int = 0, fault: Fault = Fault.REFUSED, *, only: str = "") -> None:
        self.calls: list[str] = []
        self._at = at
        self._fault = fault
        self._only = only

    def around(self, subject: Any) -> Any:
        """The subject, whose calls are counted."""
        return _Guarded(subject, self)

    async def call(self, name: str, make: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Make a call, unless it is the one that fails."""
        if self._only in name:
            self.calls.append(name)
        fails = self._only in name and len(self.calls) == self._at
        if fails and self._fault is Fault.REFUSED:
            raise StorageUnavailableError(name)
        result = await make()
        if fails:
            raise StorageUnavailableError(name) if self._fault is Fault.REPLY_LOST else asyncio.CancelledError
        return result


class _Guarded:
    def __init__(self, subject: Any, faults: Faults) -> None:
        self._subject = subject
        self._faults = faults

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._subject, name)
        if name == "release":
            return method
        place = f"{type(self._subject).__name__}.{name}"
        return lambda *args, **named: self._faults.call(place, functools.partial(method, *args, **named))


class Deployment:
    """A database and an archive with something to do for every worker; `put_back` makes it as it was."""

    def __init__(self, world: World, url: str, clock: ManualClock) -> None:
        self.world = world
        self.clock = clock
        self.archive: Archive = LocalArchive()
        self._url = url
        self._began_ms = clock.wall_ms()
        self._tables: list[str] = []

    async def prepare(self) -> None:
        """Have people do things, long ago."""
        world = self.world
        ann, bo, cy = await world.people(3)
        group = await world.create(DialogType.GROUP, ann, bo, cy)
        await world.flush(message(group, ann), message(group, ann, expires_at_ms=1), message(group, ann))
        await world.flush(edit(group, ann, 2), reaction(group, bo, 2), reaction(group, cy, 3), reaction(group, bo, 4))
        await world.act(bodies.Deleted, group, ann, target=2)
        keeping = await world.create(DialogType.GROUP, bo, ann, cy)
        await world.flush(message(keeping, ann), message(keeping, ann, kind=Kind.PAYMENT))
        settings = bodies.SettingsChanged("name", "", "", bodies.Settings(message_retention_days=30))
        await world.change(ChangeEntry(keeping, bo.principal, bo.device, bo.n(), settings))
        deleted = await world.create(DialogType.GROUP, cy, ann, bo)
        await world.flush(message(deleted, ann), message(deleted, cy, kind=Kind.PAYMENT), reaction(deleted, bo, 2))
        await world.act(bodies.DialogDeleted, deleted, cy)
        di, ed = await world.people(2)  # di is purged
        others = await world.create(DialogType.GROUP, ed, di, ann)
        await world.flush(message(others, ed), message(others, di), message(others, di, kind=Kind.PAYMENT))
        await world.flush(edit(others, di, 3), reaction(others, ed, 3), reaction(others, di, 2), edit(others, di, 4))
        home = await world.create(DialogType.SELF, ann)
        await world.flush(message(home, ann))
        stores = IdentityStores(world.pool)
        await world.chooses(di, None)
        await stores.people.delete(NOW, di.principal)
        for number in ("+66800000001", "+66800000002"):
            opened = await sign_in(stores, number, sign_in=new_id())
            await stores.people.delete(NOW, opened.principal)
        backlog = PostgresBacklog(self._url, statement_timeout_s=30.0)
        await backlog.take()  # from now on erasures are noted
        await backlog.release()
        await self._save()

    async def _save(self) -> None:
        tables = await self.world.pool.fetch(
            "SELECT relname FROM pg_stat_user_tables WHERE schemaname = 'public' AND relname <> ALL ($1) ORDER BY 1",
            NOT_OURS,
        )
        self._tables = [table for (table,) in tables]
        await self.world.pool.execute(
            "CREATE SCHEMA saved; " + "; ".join(f"CREATE TABLE saved.{each} AS TABLE {each}" for each in self._tables)
        )

    async def put_back(self) -> None:
        """Rows, archive and clock as they were."""
        names = ", ".join(self._tables)
        copies = "; ".join(f"INSERT INTO {each} OVERRIDING SYSTEM VALUE TABLE saved.{each}" for each in self._tables)
        await self.world.pool.execute(
            f"BEGIN; SET LOCAL session_replication_role = replica; TRUNCATE {names}; {copies}; COMMIT"
        )
        self.clock = ManualClock(self._began_ms)
        if isinstance(self.archive, LocalArchive):
            self.archive = LocalArchive()
        else:  # what a later epoch writes wins over all that is there
            await self.world.pool.execute("UPDATE deployment SET epoch = epoch + 1")

    async def work(self, faults: Faults) -> None:
        """All that is due, today and later; after a fault another holder goes on."""
        for works in DAYS:
            for name in works:
                for _holder in range(2):
                    await self._until_idle(getattr(self, f"_{name}")(faults))
            self.clock.advance(2 * DAY_MS / 1000)

    async def read(self) -> tuple[dict[str, list[str]], list[TimelineRow]]:
        """What there is now, in both stores."""
        found = {}
        for table in self._tables:
            rows = await self.world.pool.fetch(
                f"SELECT (to_jsonb(t) - $1::text[])::text AS row FROM {table} t ORDER BY 1", NUMBERS_THAT_DIFFER
            )
            found[table] = [row["row"] for row in rows]
        return found, await archived_rows(self.world, self.archive)

    async def _until_idle(self, make: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
        async def sleep(seconds: float) -> None:
            if seconds >= IDLE_S:
                raise asyncio.CancelledError

        with contextlib.suppress(asyncio.CancelledError):
            await make(sleep)

    def _move(self, faults: Faults) -> Callable[[Any], Coroutine[Any, Any, None]]:
        async def run(sleep: Any) -> None:
            backlog = PostgresBacklog(self._url, statement_timeout_s=30.0, page_rows_max=8)
            async with asyncio.timeout(20):
                while not (await backlog.take()).held:  # the holder before has just gone
                    pass
            await Mover(faults.around(backlog), faults.around(self.archive), self.clock, sleep=sleep).run()

        return run

    def _erase(self, faults: Faults) -> Callable[[Any], Coroutine[Any, Any, None]]:
        return lambda sleep: Eraser(faults.around(self.world.journal), SETTINGS, self.clock, sleep=sleep).run()

    def _purge_dialogs(self, faults: Faults) -> Callable[[Any], Coroutine[Any, Any, None]]:
        deleted = faults.around(PostgresDeletedDialogs(self.world.pool))
        return lambda sleep: DialogPurge(deleted, faults.around(self.archive), SETTINGS, self.clock, sleep=sleep).run()

    def _purge_people(self, faults: Faults) -> Callable[[Any], Coroutine[Any, Any, None]]:
        people = faults.around(IdentityStores(self.world.pool).people)
        return lambda sleep: Purge(people, self.clock, IdentitySettings(), sleep).run()

    def _purge_authors(self, faults: Faults) -> Callable[[Any], Coroutine[Any, Any, None]]:
        authors = faults.around(PostgresPurgedAuthors(self.world.pool))
        return lambda sleep: AuthorPurge(authors, faults.around(self.archive), SETTINGS, self.clock, sleep=sleep).run()

    def _trim(self, faults: Faults) -> Callable[[Any], Coroutine[Any, Any, None]]:
        trimming = faults.around(PostgresTrimming(self.world.pool, self.world.pool, step_blocks=1))
        return lambda sleep: Trimmer(trimming, self.clock, kept_days=31, sleep=sleep).run()


@pytest.fixture
async def deployment(world: World, database_url: str) -> Deployment:
    """A deployment a hundred days after people did things."""
    now_ms = max(NOW, await world.pool.fetchval("SELECT unix_ms()"))
    made = Deployment(world, database_url, ManualClock(now_ms + 100 * DAY_MS))
    await made.prepare()
    return made


async def test_each_worker_has_something_to_do(deployment: Deployment) -> None:
    """Otherwise the other tests would show nothing."""
    before, _ = await deployment.read()
    faults = Faults()
    await deployment.work(faults)
    after, archived = await deployment.read()
    done = {call.rpartition(".")[2] for call in faults.calls}
    assert done >= {"write", "advance", "erase", "forget_erasures", "erase_due", "purge", "trim"}
    assert done >= {"purge_some", "delete_dialog", "finish", "erase_some", "list_written", "erase_left"}
    assert len(after["journal"]) < len(before["journal"])
    assert (len(before["people"]), len(after["people"])) == (3, 0)
    assert not any(after[each] for each in ("erasures", "archive_erasures", "purged_authors"))
    assert not after["deleted_dialogs"]
    assert len([row for row in archived if row.tag == 5]) > 3


def choose(calls: list[str]) -> list[tuple[int, Fault]]:
    """Of each sort of call the first, not made or without its reply, and one in the middle, with which all ends."""
    chosen = []
    for number, name in enumerate(sorted(set(calls))):
        places = [at for at, call in enumerate(calls, 1) if call == name]
        chosen.append((places[0], Fault.REFUSED if number % 2 else Fault.REPLY_LOST))
        chosen.append((places[len(places) // 2], Fault.GONE))
    return chosen


async def compare(deployment: Deployment, only: str) -> None:
    """Cut the calls that are chosen short, one in each run, and compare the ends."""
    await deployment.put_back()
    without = Faults(only=only)
    await deployment.work(without)
    expected = await deployment.read()
    for at, fault in choose(without.calls):
        await deployment.put_back()
        await deployment.work(Faults(at, fault, only=only))
        assert await deployment.read() == expected, (at, without.calls[at - 1], fault)


async def test_a_worker_cut_short_is_followed_by_one_that_ends_alike(deployment: Deployment) -> None:
    await compare(deployment, only="")


@pytest.mark.cassandra
async def test_so_it_is_with_a_cql_server(deployment: Deployment, cql_server: CqlServer) -> None:
    archive = CqlArchive(cql_server, read_timeout_s=10.0, write_timeout_s=10.0)
    deployment.archive = archive
    try:
        await compare(deployment, only="CqlArchive")
    finally:
        await archive.close()
