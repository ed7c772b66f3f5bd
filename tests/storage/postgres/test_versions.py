"""A database of the version before: `versions/NNNN.sql` is a dump of one, made by that version's own code.

It holds what four people said and did: a `self` and a direct dialog, a group with an edit, reactions, a deletion, a
removal and new settings, a channel that one joined, a block, a mute, receipts, sign-ins and a refreshed token.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import msgspec
import pytest

from protocol import bodies
from protocol.bodies import AnyBody
from protocol.dialog_types import DialogType, Mode, Role
from protocol.ids import direct_dialog_id, self_dialog_id
from protocol.kinds import DAY_MS, Kind
from server.config.settings import EraserSettings
from server.writing.author_purge import AuthorPurge
from storage.postgres.migrate import FUNCTIONS, is_current, migrate
from storage.postgres.purged_authors import PostgresPurgedAuthors
from storage.rows import ReceiptRow, VerdictCode
from tests.support.clock import ManualClock
from tests.support.world import Person, World, message

pytestmark = pytest.mark.anyio

BEFORE = Path(__file__).parent / "versions" / "0003.sql"

SCHEMA = """
SELECT c.relname, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attstorage,
       pg_get_expr(d.adbin, d.adrelid), c.relkind, c.reloptions
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.relnamespace = 'public'::regnamespace ORDER BY 1, 2;
SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1;
SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2;
SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1;
SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace ORDER BY 1;
SELECT number, name FROM migrations ORDER BY 1;
SELECT digest, names FROM applied_functions;
"""


async def schema(url: str) -> list[list[asyncpg.Record]]:
    """All that makes a schema: columns, indexes, constraints, triggers, functions, and what is noted of them."""
    connection = await asyncpg.connect(url)
    try:
        return [await connection.fetch(query) for query in SCHEMA.split(";")[:-1]]
    finally:
        await connection.close()


@pytest.fixture
async def url_before(empty_database_url: str) -> str:
    """A database as the version before left it."""
    connection = await asyncpg.connect(empty_database_url)
    try:
        await connection.execute(BEFORE.read_text(encoding="utf-8"))
    finally:
        await connection.close()
    return empty_database_url


@pytest.fixture
async def world(url_before: str) -> AsyncIterator[World]:
    """That database, migrated."""
    await migrate(url_before)
    opened = await World.open(url_before)
    yield opened
    await opened.close()


async def person(world: World, name: str) -> Person:
    """One of the four, who goes on with numbers that are still free."""
    row = await world.pool.fetchrow(
        "SELECT s.principal_id, s.device_id, s.sign_in_id FROM sign_ins s JOIN people p USING (principal_id)"
        " WHERE p.display_name = $1",
        name,
    )
    assert row is not None
    return Person(row[0], row[1], row[2], itertools.count(100))


async def dialog_of(world: World, kind: DialogType) -> bytes:
    """The only dialog of that type."""
    found: bytes = await world.pool.fetchval("SELECT dialog_id FROM heads WHERE type = $1", kind)
    return found


async def read(world: World, who: Person, dialog: bytes) -> list[AnyBody]:
    """What happened in a dialog, as one member may see it."""
    rows = await world.timelines.read_events(who.principal, [(dialog, 1, 99)], limit=99)
    return [msgspec.msgpack.decode(row.body, type=AnyBody) for row in rows]


def posted(text: str) -> bodies.Posted:
    """A message as the fixture has them."""
    return bodies.Posted(Kind.MESSAGE, bodies.Header(), text.encode())


async def test_it_is_not_current_until_it_is_migrated_once(url_before: str) -> None:
    connection = await asyncpg.connect(url_before)
    try:
        assert not await is_current(connection)
        steps = await migrate(url_before)
        assert (steps[0], steps[-1]) == ("0004_functions_apart", FUNCTIONS)
        assert await is_current(connection)
        assert await migrate(url_before) == []
    finally:
        await connection.close()


async def test_it_gets_the_schema_of_a_new_one(url_before: str, database_url: str) -> None:
    await migrate(url_before)
    for migrated, fresh in zip(await schema(url_before), await schema(database_url), strict=True):
        assert migrated == fresh


async def test_its_conversations_read_as_before(world: World) -> None:
    ann, bo, cy, di = [await person(world, name) for name in ("Ann", "Bo", "Cy", "Di")]
    group, channel = await dialog_of(world, DialogType.GROUP), await dialog_of(world, DialogType.CHANNEL)
    created, *rest = await read(world, ann, group)
    assert isinstance(created, bodies.DialogCreated)
    assert [(each.principal, each.role) for each in created.members] == [
        (ann.principal, Role.ADMIN),
        (bo.principal, Role.MEMBER),
        (cy.principal, Role.MEMBER),
    ]
    happened: list[AnyBody] = [
        posted("hello all"),
        bodies.Erased(),
        bodies.Edited(2, b"hello everybody"),
        bodies.Reacted(2, b"+1"),
        bodies.Erased(),
        bodies.Deleted(3),
        bodies.MembersAdded([di.principal]),
        bodies.MemberRemoved(cy.principal),
        bodies.Promoted(bo.principal),
        bodies.SettingsChanged("team", "the team", "", bodies.Settings(message_retention_days=30)),
    ]
    assert rest == happened
    assert await read(world, cy, group) == [created, *happened[:8]]
    assert await read(world, di, group) == happened[6:]
    assert (await read(world, di, channel))[1:] == [posted("news"), bodies.MembersAdded([di.principal])]
    assert await read(world, bo, direct_dialog_id(ann.principal, bo.principal)) == [
        bodies.DialogCreated(
            DialogType.DIRECT,
            Mode.SEALED,
            "name",
            "",
            "",
            bodies.Settings(),
            [bodies.MemberRole(ann.principal, Role.MEMBER), bodies.MemberRole(bo.principal, Role.MEMBER)],
        ),
        posted("sealed one"),
        posted("sealed two"),
    ]
    assert (await read(world, ann, self_dialog_id(ann.principal)))[1:] == [
        bodies.Blocked(cy.principal),
        bodies.Blocked(di.principal),
        bodies.Unblocked(di.principal),
        bodies.Muted(channel, 77),
    ]


async def test_its_state_is_as_before(world: World) -> None:
    ann, bo = await person(world, "Ann"), await person(world, "Bo")
    group = await dialog_of(world, DialogType.GROUP)
    taken = await world.timelines.take_snapshot(ann.principal, ann.sign_in, None, window=9, events_max=99)
    assert sorted(row.head_seq for row in taken.page.dialogs) == [3, 3, 5, 11]
    (row,) = await world.timelines.read_dialogs(bo.principal, [group])
    assert (row.state.name, row.state.role, row.state.member_count) == ("team", Role.ADMIN, 3)
    assert (row.state.delivered, row.state.read, row.state.read_messages) == (5, 4, 2)
    assert await world.pool.fetchval("SELECT count(*) FROM receipt_heads") == 2


async def test_who_wrote_to_somebody_directly_knows_them(world: World) -> None:
    ann, bo = await person(world, "Ann"), await person(world, "Bo")
    known = await world.pool.fetch("SELECT principal_id, other_id FROM contacts")
    wrote = await world.pool.fetch(
        "SELECT DISTINCT author_id FROM journal WHERE dialog_id = $1",
        direct_dialog_id(ann.principal, bo.principal),
    )
    pair = {ann.principal, bo.principal}
    assert {tuple(row) for row in known} == {(who, *(pair - {who})) for (who,) in wrote}
    assert wrote


async def test_people_go_on_with_it(world: World) -> None:
    ann, bo, di = [await person(world, name) for name in ("Ann", "Bo", "Di")]
    group, channel = await dialog_of(world, DialogType.GROUP), await dialog_of(world, DialogType.CHANNEL)
    verdicts = await world.flush(message(group, ann), message(channel, ann), message(channel, di))
    assert [verdict.code for verdict in verdicts] == [VerdictCode.OK, VerdictCode.OK, VerdictCode.ROLE_REQUIRED]
    for result in (
        await world.act(bodies.Deleted, group, bo, target=2),
        await world.act(bodies.Demoted, group, bo, ann),
        await world.act(bodies.MemberLeft, group, bo),
        (await world.try_create(DialogType.CHANNEL, di))[0],
    ):
        assert result.verdict.code is VerdictCode.OK
    (raised,) = await world.raise_receipts(ReceiptRow(group, di.principal, 99, 99))
    assert (raised.delivered, raised.read) == (16, 16)


async def test_what_its_dialogs_keep_no_longer_is_erased(world: World) -> None:
    ann = await person(world, "Ann")
    group, channel = await dialog_of(world, DialogType.GROUP), await dialog_of(world, DialogType.CHANNEL)
    newest_ms = await world.pool.fetchval("SELECT max(at_ms) FROM journal")
    await world.journal.erase_due(newest_ms + 30 * DAY_MS, limit=500)
    assert not any(isinstance(body, bodies.Posted | bodies.Edited) for body in await read(world, ann, group))
    assert posted("news") in await read(world, ann, channel)


async def test_what_people_wrote_who_were_purged_before_is_erased(url_before: str) -> None:
    connection = await asyncpg.connect(url_before)
    ann = await connection.fetchval("DELETE FROM people WHERE display_name = 'Ann' RETURNING principal_id")
    await connection.execute("UPDATE principals SET status = 3, deleted_at_ms = 1 WHERE principal_id = $1", ann)
    await connection.close()
    await migrate(url_before)
    world = await World.open(url_before)
    purge = AuthorPurge(PostgresPurgedAuthors(world.pool), None, EraserSettings(), ManualClock())
    while await purge.erase_some():
        pass
    written = await world.pool.fetch("SELECT author_id, tag FROM journal WHERE tag IN (1, 2, 4, 5)")
    await world.close()
    assert {tag for author, tag in written if author == ann.bytes} == {5}
    assert {tag for author, tag in written if author != ann.bytes} >= {1, 4}


async def test_a_retry_from_before_is_answered_with_its_first_numbers(world: World) -> None:
    ann, bo = await person(world, "Ann"), await person(world, "Bo")
    group = await dialog_of(world, DialogType.GROUP)
    said = await world.pool.fetchrow("SELECT seq, n, device_id FROM journal WHERE dialog_id = $1 AND seq = 2", group)
    assert said is not None
    assert said["device_id"] == ann.device
    (verdict,) = await world.flush(message(group, ann, "hello all", n=said["n"]))
    assert (verdict.code, verdict.seq) == (VerdictCode.DUPLICATE, 2)
    n = await world.pool.fetchval("SELECT n FROM journal WHERE dialog_id = $1 AND seq = 10", group)
    again = await world.act(bodies.Promoted, group, ann, bo, n=n)
    assert (again.verdict.code, again.verdict.seq, len(again.events)) == (VerdictCode.DUPLICATE, 10, 1)


async def test_a_key_of_before_keeps_what_it_may_do(url_before: str) -> None:
    connection = await asyncpg.connect(url_before)
    try:
        ((principal, key),) = await connection.fetch("SELECT principal_id, device_id FROM devices LIMIT 1")
        await connection.execute("INSERT INTO services VALUES ($1, 'pay')", principal)
        await connection.execute("INSERT INTO api_keys VALUES ($1, $2, 'hash', '{10}', 0)", key, principal)
        await migrate(url_before)
        (row,) = await connection.fetch("SELECT kinds, businesses, all_dialogs FROM api_keys")
    finally:
        await connection.close()
    assert tuple(row) == ([10], None, True)
