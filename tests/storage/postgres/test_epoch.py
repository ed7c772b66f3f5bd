"""A restore or a promotion begins an epoch, and resumes work in it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import asyncpg
import pytest

from protocol.dialog_types import DialogType
from storage.embedded.cluster import EmbeddedPostgres
from storage.embedded.install import wheel_install
from storage.postgres import epoch as module
from storage.postgres.epoch import settle_epoch
from storage.postgres.migrate import migrate
from storage.unavailable import OtherHistoryError
from tests.support.world import Person, World

pytestmark = pytest.mark.anyio

_GROW_OLDER = "DO $$ BEGIN FOR i IN 1..5000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$"
"""Uses up ids of transactions."""


async def settle(url: str, lines: list[str] | None = None, *, synchronous: bool = False) -> int:
    connection = await asyncpg.connect(url)
    try:
        progress = (lines if lines is not None else []).append
        return await settle_epoch(connection, progress, synchronous=synchronous)
    finally:
        await connection.close()


async def missed(world: World, person: Person, since: int) -> tuple[bool, list[int]]:
    """Whether a resume from that horizon recovers, and the first number that each dialog lacks."""
    found = await world.timelines.take_snapshot(person.principal, person.sign_in, since, window=9, events_max=99)
    return found.recovered, [row.unseen_from for row in found.page.dialogs]


async def test_an_epoch_begins_once_with_each_history(world: World, database_url: str) -> None:
    began = await settle(database_url)
    assert await settle(database_url) == began
    await world.pool.execute("UPDATE deployment SET timeline_id = timeline_id - 1")  # as before a promotion
    promoted = await settle(database_url)
    assert promoted > began
    await world.pool.execute("UPDATE deployment SET system_identifier = 7")
    assert await settle(database_url) > promoted


async def test_the_number_of_a_life_that_was_lost_is_not_given_out_again(world: World, database_url: str) -> None:
    await settle(database_url)
    lost = await world.journal.begin_incarnation("a node that lives on")
    await world.pool.execute("DELETE FROM incarnations WHERE incarnation = $1", lost)
    await world.pool.execute(f"ALTER TABLE incarnations ALTER incarnation RESTART WITH {lost}")
    await world.pool.execute("UPDATE deployment SET timeline_id = timeline_id - 1")
    await settle(database_url)
    assert await world.journal.begin_incarnation("another node") > lost


async def test_the_promotion_of_a_synchronous_standby_begins_no_epoch_and_another_cluster_does(
    world: World, database_url: str
) -> None:
    began = await settle(database_url)
    await world.pool.execute("UPDATE deployment SET timeline_id = timeline_id - 1")
    assert await settle(database_url, synchronous=True) == began
    assert await settle(database_url) == began
    await world.pool.execute("UPDATE deployment SET system_identifier = 7, timeline_id = timeline_id - 1")
    assert await settle(database_url, synchronous=True) > began


async def test_stamps_that_the_cluster_has_not_reached_are_put_before_all_others(
    world: World, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PAGES_PER_STEP", 1)
    ann, bo, cy = await world.people(3)
    dialogs = [await world.create(DialogType.GROUP, ann, bo, cy) for _ in range(40)]
    for dialog in dialogs:
        await world.say(dialog, ann, "x" * 1000)
    await world.pool.execute("UPDATE journal SET xid = '5000000000' WHERE seq = 2")
    for table in ("heads", "members"):
        await world.pool.execute(f"UPDATE {table} SET xid = '5000000000'")
    await world.pool.execute("INSERT INTO archiving (moved, covered_ms) VALUES ('5', 1)")
    await world.pool.execute("UPDATE trimming SET newest = '5000000000'")
    lines: list[str] = []
    await settle(database_url, lines)
    assert await world.pool.fetchval("SELECT moved::text FROM archiving") == "0"  # rows are below it now
    # Rows that keep their stamps may be older than what has left the journal.
    assert await world.pool.fetchval("SELECT newest > (SELECT max(xid) FROM journal) FROM trimming")
    assert sum(line.startswith("stamps of another cluster in journal: ") for line in lines) > 3
    since = await world.read_horizon()
    assert await missed(world, bo, since) == (True, [])
    await world.say(dialogs[0], ann)
    assert await missed(world, bo, since) == (True, [3])


async def test_resumes_work_after_a_dump_and_a_restore(world: World, database_url: str, tmp_path: Path) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    await world.pool.execute(_GROW_OLDER)
    await world.say(dialog, ann)
    epoch = await settle(database_url)
    with EmbeddedPostgres(tmp_path) as elsewhere:
        dump_and_restore(database_url, elsewhere.url)
        assert await migrate(elsewhere.url) == []
        restored = await World.open(elsewhere.url)
        stamped = int(await restored.pool.fetchval("SELECT max(xid)::text FROM heads"))
        now = await restored.pool.fetchval("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
        assert stamped > now, "the other cluster is younger"
        with pytest.raises(OtherHistoryError):
            await restored.read_horizon()
        assert await settle(elsewhere.url) > epoch
        since = await restored.read_horizon()
        assert await missed(restored, bo, since) == (True, [])
        await restored.say(dialog, ann)
        assert await missed(restored, bo, since) == (True, [3])
        await restored.close()


def dump_and_restore(source: str, target: str) -> None:
    """By PostgreSQL's own programs, as an operator would."""
    programs = wheel_install() / "bin"
    dump = subprocess.run([programs / "pg_dump", source], check=True, capture_output=True)
    subprocess.run(
        [programs / "psql", "-q", "-v", "ON_ERROR_STOP=1", target], input=dump.stdout, check=True, capture_output=True
    )
