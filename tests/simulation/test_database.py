"""Where the database in memory must behave as PostgreSQL, and the conformance suite cannot look without SQL."""

from __future__ import annotations

import asyncio

import pytest

from protocol.dialog_types import DialogType
from storage.rows import VerdictCode
from storage.unavailable import IncarnationEndedError, LockTimeoutError, StorageUnavailableError
from tests.simulation import database
from tests.simulation.database import Conditions, Fate
from tests.simulation.memory_world import MemoryWorld
from tests.support.turns import until
from tests.support.world import Person, message

pytestmark = pytest.mark.anyio


class Chosen(Conditions):
    """The fates of the next calls; then all is well."""

    def __init__(self, *fates: Fate) -> None:
        self.fates = list(fates)

    def fate_of(self, call: str) -> Fate:
        return self.fates.pop(0) if self.fates else super().fate_of(call)


async def opened(world: MemoryWorld) -> tuple[Person, bytes, bytes]:
    """Somebody in two dialogs."""
    ann, bo, cy = await world.people(3)
    return ann, await world.create(DialogType.DIRECT, ann, bo), await world.create(DialogType.DIRECT, ann, cy)


async def test_a_write_that_runs_holds_the_horizon_and_its_head(world: MemoryWorld) -> None:
    ann, held, free = await opened(world)
    before = await world.read_horizon()
    world.database.conditions = Chosen(Fate(commit_s=0.05))
    slow = asyncio.ensure_future(world.say(held, ann))
    await until(lambda: world.database.locks)
    busy, other = await world.flush(message(held, ann), message(free, ann))
    assert (busy.code, other.code) == (VerdictCode.BUSY, VerdictCode.OK)
    during = await world.read_horizon()
    assert await world.read_horizon() == during > before
    assert (await slow).seq == 2
    assert await world.read_horizon() > during


async def test_what_commits_late_is_not_passed_over_by_a_position(world: MemoryWorld) -> None:
    ann, late, other = await opened(world)
    world.database.conditions = Chosen(Fate(commit_s=0.05))
    slow = asyncio.ensure_future(world.say(late, ann))
    await until(lambda: world.database.locks)
    await world.say(other, ann)
    position = await world.read_horizon()
    await slow
    read = world.timelines.take_snapshot
    taken = await read(ann.principal, ann.sign_in, position, window=9, events_max=9)
    assert {row.state.dialog: row.unseen_from for row in taken.page.dialogs} == {late: 2, other: 2}


async def test_who_waits_for_a_head_waits_for_a_bounded_time(
    world: MemoryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_LOCK_TIMEOUT_S", 0.01)
    ann, dialog, _ = await opened(world)
    holding = asyncio.ensure_future(world.database.hold_head(dialog, 60.0))
    await until(lambda: world.database.locks)
    with pytest.raises(LockTimeoutError):
        await world.flush(message(dialog, ann), wait=True)
    holding.cancel()
    await asyncio.wait({holding})
    assert (await world.flush(message(dialog, ann), wait=True))[0].code is VerdictCode.OK


async def test_a_lost_reply_is_a_write_that_happened(world: MemoryWorld) -> None:
    ann, dialog, _ = await opened(world)
    said = message(dialog, ann)
    world.database.conditions = Chosen(Fate(error=StorageUnavailableError("lost")))
    with pytest.raises(StorageUnavailableError):
        await world.flush(said)
    (again,) = await world.flush(said)
    assert (again.code, again.seq) == (VerdictCode.DUPLICATE, 2)


async def test_a_life_is_fenced_when_nothing_of_it_runs(world: MemoryWorld) -> None:
    ann, dialog, _ = await opened(world)
    world.database.conditions = Chosen(Fate(commit_s=0.05))
    last = asyncio.ensure_future(world.say(dialog, ann))
    await until(lambda: world.database.locks)
    fencing = asyncio.ensure_future(world.database.fence_all(by=None))
    await asyncio.sleep(0)
    with pytest.raises(IncarnationEndedError):
        await world.say(dialog, ann)
    with pytest.raises(IncarnationEndedError):
        await world.read_horizon()
    assert not fencing.done()
    await fencing
    assert last.done()
    assert world.database.dialogs[dialog].seq == 2


async def test_a_crash_gives_out_again_only_what_no_horizon_covers(world: MemoryWorld) -> None:
    ann, dialog, _ = await opened(world)
    world.database.conditions = Chosen(Fate(commit_s=60.0))
    lost = asyncio.ensure_future(world.say(dialog, ann))
    await until(lambda: world.database.locks)
    unfinished = world.database.next_xid - 1
    world.database.crash()
    with pytest.raises(StorageUnavailableError):
        await lost
    with pytest.raises(StorageUnavailableError):
        await world.read_horizon()
    world.database.down = False
    assert world.database.next_xid == unfinished
    horizon = await world.read_horizon()
    world.database.crash()
    assert world.database.next_xid > horizon
