"""A deleted dialog: nothing is added, its members read it for a while, and then nothing of it is left but its head."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from protocol import bodies
from protocol.dialog_types import DialogType
from protocol.ids import NIL, self_dialog_id
from protocol.kinds import DAY_MS, Kind
from server.config.settings import EraserSettings
from server.writing.dialog_purge import DialogPurge
from server.writing.mover import Mover
from storage.archive import Archive
from storage.deleted_dialogs import Look
from storage.postgres.backlog import PostgresBacklog
from storage.postgres.deleted_dialogs import PostgresDeletedDialogs
from storage.postgres.trimming import PostgresTrimming
from storage.rows import ChangeEntry, ReceiptRow, VerdictCode
from tests.support.archiving import archived_rows
from tests.support.clock import ManualClock
from tests.support.harness import running
from tests.support.world import Person, World, edit, message, reaction

pytestmark = pytest.mark.anyio

GRACE_DAYS = 30
OF_A_DIALOG = (
    "dialogs",
    "retention",
    "members",
    "receipt_heads",
    "invitations",
    "authors",
    "erasures",
    "archive_erasures",
    "put_back",
    "handed_sessions",
    "shares",
    "journal",
)
"""The tables that hold something of a dialog, beside its head."""


class Group:
    """Ann, an admin, and Bo and Cy in a group where things were said; and what purges it."""

    def __init__(self, world: World, ann: Person, bo: Person, cy: Person, dialog: bytes) -> None:
        self.world = world
        self.ann, self.bo, self.cy, self.dialog = ann, bo, cy, dialog
        self.clock = ManualClock()
        self.deleted = PostgresDeletedDialogs(world.pool)

    async def delete(self) -> int:
        """Ann deletes it; the number of the event."""
        result = await self.world.act(bodies.DialogDeleted, self.dialog, self.ann)
        assert result.verdict.code is VerdictCode.OK
        self.clock = ManualClock(result.verdict.at_ms)
        return result.verdict.seq

    def purge(self, archive: Archive | None, *, step_rows: int = 5) -> DialogPurge:
        """What purges it."""
        settings = EraserSettings(step_rows=step_rows, dialog_deletion_grace_days=GRACE_DAYS)
        return DialogPurge(self.deleted, archive, settings, self.clock)

    async def purge_all(self, archive: Archive | None) -> DialogPurge:
        """All that is due now."""
        purge = self.purge(archive)
        while await purge.purge_some():
            pass
        return purge

    async def count_rows(self) -> dict[str, int]:
        """The rows of the dialog by table, without those that have none."""
        counts = {
            table: await self.world.pool.fetchval(
                f"SELECT count(*) FROM {table} WHERE dialog_id = $1",
                self.dialog,
            )
            for table in OF_A_DIALOG
        }
        return {table: count for table, count in counts.items() if count}


@pytest.fixture
async def group(world: World) -> Group:
    """A group with something of everything."""
    ann, bo, cy = await world.people(3)
    dialog = await world.create(DialogType.GROUP, ann, bo, cy)
    await world.flush(*(message(dialog, ann) for _ in range(8)), message(dialog, bo, reply_to=2))
    await world.flush(edit(dialog, ann, 2), reaction(dialog, bo, 2), reaction(dialog, cy, 3))
    await world.raise_receipts(ReceiptRow(dialog, bo.principal, 5, 5))
    await world.act(bodies.Deleted, dialog, ann, target=3)
    settings = bodies.Settings(message_retention_days=3000)
    body = bodies.SettingsChanged("name", "", "", settings)
    await world.change(ChangeEntry(dialog, ann.principal, ann.device, ann.n(), body))
    return Group(world, ann, bo, cy, dialog)


@pytest.fixture
async def backlog(database_url: str) -> AsyncIterator[PostgresBacklog]:
    """What the archive lacks, in small pages."""
    opened = PostgresBacklog(database_url, statement_timeout_s=30.0, page_rows_max=5)
    yield opened
    await opened.release()


async def test_only_an_admin_deletes_and_only_what_has_admins(world: World, group: Group) -> None:
    direct = await world.create(DialogType.DIRECT, group.ann, group.bo)
    home = await world.create(DialogType.SELF, group.ann)
    stranger = await world.person()
    for dialog, author, code in (
        (group.dialog, group.bo, VerdictCode.ROLE_REQUIRED),
        (direct, group.ann, VerdictCode.ROLE_REQUIRED),
        (home, group.ann, VerdictCode.ROLE_REQUIRED),
        (group.dialog, stranger, VerdictCode.NOT_FOUND),
    ):
        assert (await world.act(bodies.DialogDeleted, dialog, author)).verdict.code is code
    await group.delete()


async def test_nothing_is_added_to_a_deleted_dialog_and_a_repetition_has_its_answer(world: World, group: Group) -> None:
    dialog, ann, bo = group.dialog, group.ann, group.bo
    di, service = await world.person(), await world.person(4)
    sent = message(dialog, bo)
    (first,) = await world.flush(sent)
    n = ann.n()
    result = await world.act(bodies.DialogDeleted, dialog, ann, n=n)
    again = await world.act(bodies.DialogDeleted, dialog, ann, n=n)
    assert (again.verdict.code, again.verdict.seq) == (VerdictCode.DUPLICATE, result.verdict.seq)
    (verdict,) = await world.flush(sent)
    assert (verdict.code, verdict.seq) == (VerdictCode.DUPLICATE, first.seq)
    late = [message(dialog, bo), edit(dialog, ann, 2), message(dialog, service)]
    assert {each.code for each in await world.flush(*late)} == {VerdictCode.NOT_FOUND}
    await world.create(DialogType.SELF, di)
    changes = [
        await world.act(bodies.DialogDeleted, dialog, ann),
        await world.act(bodies.MemberLeft, dialog, bo),
        await world.act(bodies.MembersAdded, dialog, ann, di),
        await world.act(bodies.Deleted, dialog, ann, target=2),
    ]
    invited = bodies.Invited(dialog, ann.principal, DialogType.GROUP, "name")
    entry = ChangeEntry(self_dialog_id(di.principal), ann.principal, ann.device, ann.n(), invited)
    changes.append(await world.change(entry))
    assert {each.verdict.code for each in changes} == {VerdictCode.NOT_FOUND}
    assert await world.pool.fetchval("SELECT seq FROM heads WHERE dialog_id = $1", dialog) == result.verdict.seq


async def test_its_members_read_it_until_its_grace_is_over(world: World, group: Group) -> None:
    seq = await group.delete()
    group.clock.advance((GRACE_DAYS - 1) * DAY_MS / 1000)
    assert (await group.purge_all(None)).rows == 0
    me = group.bo.principal
    (row,) = await world.timelines.read_dialogs(me, [group.dialog])
    assert (row.state.deleted, row.state.member, row.state.seq) == (True, True, seq)
    assert len(await world.timelines.read_events(me, [(group.dialog, 1, seq)], limit=99)) == seq


async def test_after_its_grace_only_its_head_is_left(world: World, group: Group) -> None:
    other = await world.create(DialogType.GROUP, group.ann, group.bo, group.cy)
    await world.say(other, group.ann)
    seq = await group.delete()
    before = await world.pool.fetchval("SELECT count(*) FROM journal WHERE dialog_id = $1", other)
    group.clock.advance(GRACE_DAYS * DAY_MS / 1000 + 1)
    purge = await group.purge_all(None)
    assert purge.looks == 1
    assert await group.count_rows() == {}
    me = group.bo.principal
    assert await world.timelines.read_dialogs(me, [group.dialog]) == []
    taken = await world.timelines.take_snapshot(me, group.bo.sign_in, None, window=9, events_max=999)
    assert [row.state.dialog for row in taken.page.dialogs] == [other]
    assert await world.timelines.read_members(me, [group.dialog], after=NIL, limit=9) == {}
    assert (await world.say(group.dialog, group.bo)).code is VerdictCode.NOT_FOUND
    joins = await world.act(bodies.MembersAdded, group.dialog, group.bo, group.bo)
    assert joins.verdict.code is VerdictCode.NOT_FOUND
    heads = await world.pool.fetch("SELECT seq, deleted FROM heads WHERE dialog_id = $1", group.dialog)
    assert [tuple(row) for row in heads] == [(seq, True)]
    assert await world.pool.fetchval("SELECT count(*) FROM journal WHERE dialog_id = $1", other) == before


async def test_it_is_looked_through_until_nothing_is_met(world: World, group: Group) -> None:
    """What a statement writes that was under way when the purge went by is found a day later."""
    await group.delete()
    late = await world.pool.fetchrow("SELECT * FROM journal WHERE dialog_id = $1 AND seq = 4", group.dialog)
    group.clock.advance(GRACE_DAYS * DAY_MS / 1000 + 1)
    await group.purge_all(None)
    await world.pool.execute(
        "INSERT INTO journal SELECT (jsonb_populate_record(NULL::journal, $1::text::jsonb)).*",
        await world.pool.fetchval("SELECT to_jsonb($1::journal)::text", late),
    )
    looked = []
    for _ in range(3):
        group.clock.advance(DAY_MS / 1000 + 1)
        looked.append((await group.purge_all(None)).rows)
        assert await group.count_rows() == {}
    assert looked == [1, 0, 0]
    assert await world.pool.fetchval("SELECT count(*) FROM deleted_dialogs") == 0


@pytest.mark.parametrize("kind", [Kind.PAYMENT, Kind.ORDER, Kind.BOOKING])
async def test_payments_go_with_their_dialog_and_what_hangs_on_them(world: World, group: Group, kind: Kind) -> None:
    """The ledger is the record: no timeline keeps a person's payments longer than the person wants."""
    dialog, ann = group.dialog, group.ann
    (paid,) = await world.flush(message(dialog, ann, kind=kind))
    await world.flush(reaction(dialog, group.bo, paid.seq))
    kept = await world.act(bodies.Deleted, dialog, ann, target=paid.seq)
    assert kept.verdict.code is VerdictCode.NOT_ALLOWED
    await group.delete()
    group.clock.advance(GRACE_DAYS * DAY_MS / 1000 + 1)
    await group.purge_all(None)
    assert await group.count_rows() == {}


async def test_two_at_once_purge_what_one_does(world: World, group: Group) -> None:
    """The end of a look is counted once: who is late does not end the next one."""
    await group.delete()
    group.clock.advance(GRACE_DAYS * DAY_MS / 1000 + 1)
    now_ms, grace_ms = group.clock.wall_ms(), GRACE_DAYS * DAY_MS
    looks: list[Look] = []
    while len(looks) < 2:
        step = await group.deleted.purge_some(now_ms, grace_ms=grace_ms, limit=5)
        looks += [step.ended] if step.ended else []
    assert looks[0] == looks[1]
    for look in looks:
        await group.deleted.finish(look, now_ms, grace_ms=grace_ms)
    assert await world.pool.fetchval("SELECT count(*) FROM deleted_dialogs") == 1
    assert await group.count_rows() == {}


async def test_a_mover_that_wakes_late_brings_nothing_back(
    world: World, group: Group, archive: Archive, backlog: PostgresBacklog
) -> None:
    """It has read its rows before the purge, and writes them after it; so does what puts events back."""
    await Mover(backlog, archive, group.clock).move()
    seq = await group.delete()
    held = [row for row in await archived_rows(world, archive) if row.event.dialog == group.dialog]
    assert len(held) == seq - 1
    group.clock.advance(GRACE_DAYS * DAY_MS / 1000 + 1)
    await group.purge_all(archive)
    assert await archived_rows(world, archive) == []
    epoch = (await backlog.take()).epoch
    await archive.write(held, epoch=epoch)
    await archive.erase([(group.dialog, row.event.seq) for row in held], epoch=epoch)
    assert await archived_rows(world, archive) == []
    assert await archive.read_about(group.dialog, 1, seq, limit=99, newest_first=False) == []
    trimming = PostgresTrimming(world.pool, world.writes or world.pool)
    await trimming.put_back(held, group.clock.wall_ms(), incarnation=world.incarnation)
    assert await group.count_rows() == {}


async def test_a_node_purges_what_was_deleted(group: Group, database_url: str) -> None:
    await group.delete()
    await group.world.pool.execute("UPDATE deleted_dialogs SET grace_from_ms = 0")
    async with running(database_url), asyncio.timeout(20):
        while await group.count_rows():
            pass
