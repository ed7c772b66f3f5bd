"""Work that one node does for all goes on, on one node, whatever happens to the one that did it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import asyncpg
import pytest

from storage.postgres.backlog import PostgresBacklog
from storage.postgres.node_list import list_nodes
from storage.postgres.work_locks import Work, WorkLocks
from tests.support.world import World

pytestmark = pytest.mark.anyio

ALL = frozenset({Work.ERASER, Work.PURGE})
NOTHING: frozenset[Work] = frozenset()
TERMINATE = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tchat work of incarnation 1'"
)
MakeLocks = Callable[..., WorkLocks]


@pytest.fixture
async def make_locks(database_url: str) -> AsyncIterator[MakeLocks]:
    """Makes the locks of a node, whose connection ends with the test."""
    made: list[WorkLocks] = []

    def make(incarnation: int = 1, **options: object) -> WorkLocks:
        made.append(WorkLocks(database_url, incarnation=incarnation, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for locks in made:
        locks.release()


async def until_held(locks: WorkLocks, works: frozenset[Work]) -> None:
    async with asyncio.timeout(20):
        while locks.held != works:
            await locks.look(works)


class Job:
    """Work that says when it begins and when it is stopped."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.ended = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled."""
        self.begun.set()
        self.ended.clear()
        try:
            await asyncio.Event().wait()
        finally:
            self.begun.clear()
            self.ended.set()


async def test_one_has_the_work_until_it_lets_go(make_locks: MakeLocks) -> None:
    first, second = make_locks(), make_locks()
    for each in (first, second, first):
        await each.look(ALL)
    assert [first.held, second.held] == [ALL, NOTHING]
    first.release()
    await until_held(second, ALL)


async def test_sorts_of_work_may_be_on_different_nodes(make_locks: MakeLocks) -> None:
    first, second = make_locks(), make_locks()
    await first.look({Work.TRIMMER})
    await second.look({Work.TRIMMER, Work.ERASER})
    assert [list(each.held) for each in (first, second)] == [[Work.TRIMMER], [Work.ERASER]]


async def test_who_says_nothing_for_too_long_loses_it(make_locks: MakeLocks) -> None:
    """A node that is paused: the connection is open, and nobody speaks on it."""
    paused, other = make_locks(silent_s=0.2), make_locks()
    await paused.look(ALL)
    await until_held(other, ALL)
    assert paused.held == ALL
    await paused.look(ALL)
    assert paused.held == NOTHING
    await paused.look(ALL)
    assert [paused.held, other.held] == [NOTHING, ALL]


async def test_a_mover_that_says_nothing_for_too_long_loses_the_backlog(world: World, database_url: str) -> None:
    del world
    paused, other = (PostgresBacklog(database_url, statement_timeout_s=9.0, silent_s=0.2) for _ in range(2))
    assert (await paused.take()).held
    async with asyncio.timeout(20):
        while not (await other.take()).held:
            pass
    for each in (paused, other):
        await each.release()


async def test_a_job_is_stopped_when_its_lock_is_lost_and_begins_anew_with_it(
    world: World, make_locks: MakeLocks
) -> None:
    async def no_sleep(_seconds: float) -> None:
        await asyncio.sleep(0)

    job, other = Job(), make_locks(2)
    task = asyncio.create_task(make_locks(1, sleep=no_sleep).run({Work.ERASER: job.run}))
    async with asyncio.timeout(20):
        await job.begun.wait()
        while other.held != {Work.ERASER}:
            await world.pool.execute(TERMINATE)
            await other.look({Work.ERASER})
        await job.ended.wait()
        other.release()
        await job.begun.wait()
    task.cancel()
    await asyncio.wait({task})
    assert job.ended.is_set()


async def test_an_error_of_a_job_is_not_swallowed(make_locks: MakeLocks) -> None:
    async def fails() -> None:
        raise ValueError("a mistake")

    with pytest.raises(ExceptionGroup):
        await make_locks().run({Work.PURGE: fails})


async def test_the_list_of_nodes_says_who_does_what(world: World, database_url: str, make_locks: MakeLocks) -> None:
    locks = make_locks(world.incarnation)
    await locks.look(ALL)
    backlog = PostgresBacklog(database_url, statement_timeout_s=9.0, incarnation=world.incarnation)
    await backlog.take()
    connection = await asyncpg.connect(database_url)
    (life,) = await list_nodes(connection)
    await connection.close()
    await backlog.release()
    assert life.works == ("mover", "eraser", "purge")
