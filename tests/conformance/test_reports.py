"""What an erased message committed to is kept for a while, wherever its row was; reports are kept as they come."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator

import msgspec
import pytest

from protocol import bodies
from protocol.bodies import Header, Ref
from protocol.dialog_types import DialogType
from protocol.ids import new_id
from protocol.kinds import Kind
from server.writing.mover import Mover
from storage.archive import Archive
from storage.deleted_dialogs import DeletedDialogs
from storage.local.archive import LocalArchive
from storage.postgres.backlog import PostgresBacklog
from storage.postgres.deleted_dialogs import PostgresDeletedDialogs
from storage.postgres.reports import PostgresReports
from storage.postgres.trimming import PostgresTrimming
from storage.reports import COMMITMENT_KEPT_MS, ReportedEvent, Reports, SealedReport
from tests.support.archiving import drop_rows, moving
from tests.support.sealed_group import SealedGroup, Written
from tests.support.world import Person, World

pytestmark = pytest.mark.anyio

COUNT = "SELECT (SELECT count(*) FROM erased_commitments) + (SELECT count(*) FROM reports)"


@pytest.fixture
def reports(world: World) -> Reports:
    return PostgresReports(world.pool)


@pytest.fixture
async def group(world: World) -> SealedGroup:
    return await SealedGroup.of_three(world)


@pytest.fixture
def archive() -> LocalArchive:
    return LocalArchive()


@pytest.fixture
async def mover(database_url: str, archive: Archive) -> AsyncIterator[Mover]:
    async with moving(database_url, archive) as mover:
        yield mover


async def three(group: SealedGroup) -> list[Written]:
    """A message that answers another, its edit, and a reaction to it."""
    ann, bo, _ = group.members
    first = await group.post(bo, b"first")
    said = await group.post(ann, b"second", reply_to=first.seq)
    return [said, await group.edit(ann, said, b"edited"), await group.react(bo, said, b"+")]


async def find(reports: Reports, who: Person, written: Written, now_ms: int = 0) -> ReportedEvent | None:
    return await reports.find(who.principal, written.franked.dialog, written.seq, now_ms)


async def is_found(reports: Reports, who: Person, written: Written, now_ms: int = 0) -> bool:
    """Whether all that was committed to is found, and right."""
    event, of = await find(reports, who, written, now_ms), written.franked
    assert event is not None
    assert event.visible
    if event.committed is None:
        return False
    expected = (of.author, of.device, of.n, of.tag, of.target)
    found = event.committed
    assert (found.author, found.device, found.n, found.tag, found.target) == expected
    return True


async def erase_all(world: World, now_ms: int) -> None:
    while (await world.journal.erase_due(now_ms, limit=2)).more:
        pass


async def read_now_ms(world: World) -> int:
    now_ms: int = await world.pool.fetchval("SELECT unix_ms()")
    return now_ms


async def test_what_was_committed_to_is_found_until_thirty_days_after_the_erasure(
    world: World, reports: Reports, group: SealedGroup
) -> None:
    written, (ann, bo, _) = await three(group), group.members
    assert [await is_found(reports, bo, each) for each in written] == [True, True, True]
    await world.act(bodies.Deleted, group.dialog, ann, target=written[0].seq)
    now_ms = await read_now_ms(world)
    assert [await is_found(reports, bo, each, now_ms) for each in written] == [True, True, True]
    await erase_all(world, now_ms)
    kept = await world.pool.fetch("SELECT tag FROM journal WHERE seq = ANY($1)", [each.seq for each in written])
    assert {tag for (tag,) in kept} == {5}
    for after_ms, found in ((COMMITMENT_KEPT_MS - 60_000, True), (COMMITMENT_KEPT_MS + 60_000, False)):
        assert [await is_found(reports, bo, each, now_ms + after_ms) for each in written] == [found] * 3
        await erase_all(world, now_ms + after_ms)
        assert await world.pool.fetchval(COUNT) == (3 if found else 0)


async def test_it_is_kept_when_a_message_expires(world: World, reports: Reports, group: SealedGroup) -> None:
    ann, bo, _ = group.members
    said = await group.post(ann, b"for a minute", expires_at_ms=1)
    await erase_all(world, await read_now_ms(world))
    assert await is_found(reports, bo, said)


async def test_only_who_may_see_an_event_finds_it(world: World, reports: Reports, group: SealedGroup) -> None:
    ann, bo, cy = group.members
    stranger = await world.person()
    before = await group.post(ann, b"before")
    await world.act(bodies.MemberRemoved, group.dialog, ann, cy)
    group.members.remove(cy)
    group.forget_sessions()
    after = await group.post(ann, b"after")
    assert await find(reports, stranger, before) is None
    assert await is_found(reports, cy, before)
    assert await find(reports, cy, after) == ReportedEvent(False)
    beyond = await reports.find(bo.principal, group.dialog, after.seq + 1, 0)
    assert beyond == ReportedEvent(False)


async def test_nothing_is_kept_of_open_dialogs_or_of_one_that_is_purged(world: World, group: SealedGroup) -> None:
    ann, bo, _ = group.members
    opened = await world.create(DialogType.DIRECT, ann, bo)
    said = await world.say(opened, ann)
    await world.act(bodies.Deleted, opened, ann, target=said.seq)
    assert await world.pool.fetchval(COUNT) == 0
    sealed = await group.post(ann, b"sealed")
    await world.act(bodies.Deleted, group.dialog, ann, target=sealed.seq)
    assert await world.pool.fetchval(COUNT) == 1
    await world.act(bodies.DialogDeleted, group.dialog, ann)
    deleted: DeletedDialogs = PostgresDeletedDialogs(world.pool)
    while (await deleted.purge_some(2**50, grace_ms=1, limit=9)).rows:
        pass
    assert await world.pool.fetchval(COUNT) == 0


async def test_it_is_kept_when_only_the_archive_has_the_row(
    world: World, reports: Reports, group: SealedGroup, mover: Mover
) -> None:
    written, (ann, bo, _) = await three(group), group.members
    await mover.move()
    for each in written[1:]:
        await drop_rows(world, group.dialog, each.seq, each.seq)
    assert await find(reports, bo, written[1]) == ReportedEvent(True, archived=True)
    await world.act(bodies.Deleted, group.dialog, ann, target=written[0].seq)
    await mover.move()
    assert [await is_found(reports, bo, each) for each in written] == [True, True, True]


async def test_it_is_kept_when_a_row_is_erased_that_has_left_the_journal(
    world: World, reports: Reports, group: SealedGroup, mover: Mover
) -> None:
    """As with what a purged person wrote: it is noted as erased, and the mover sends that."""
    (said, *_), (_, bo, _) = await three(group), group.members
    await mover.move()
    await drop_rows(world, group.dialog, said.seq, said.seq)
    await world.pool.execute("SELECT erase_message($1, $2, 0)", group.dialog, said.seq)
    await mover.move()
    assert await is_found(reports, bo, said)


async def test_it_is_kept_when_a_row_is_put_back_that_counts_as_erased(
    world: World, reports: Reports, group: SealedGroup, mover: Mover, archive: LocalArchive
) -> None:
    written, (ann, bo, _) = await three(group), group.members
    await mover.move()
    rows = await archive.read_rows(group.dialog, [written[1].seq])
    await drop_rows(world, group.dialog, written[1].seq, written[1].seq)
    await world.act(bodies.Deleted, group.dialog, ann, target=written[0].seq)
    trimming = PostgresTrimming(world.pool, world.writes or world.pool)
    await trimming.put_back(rows, await read_now_ms(world), incarnation=world.incarnation)
    assert await is_found(reports, bo, written[1])


async def test_the_mover_is_told_which_rows_only_the_archive_has(
    world: World, group: SealedGroup, mover: Mover, archive: LocalArchive, database_url: str
) -> None:
    written, (ann, bo, _) = await three(group), group.members
    opened = await world.create(DialogType.DIRECT, ann, bo)
    said = await world.say(opened, ann)
    await mover.move()
    rows = await archive.read_rows(group.dialog, [written[1].seq])
    await drop_rows(world, group.dialog, written[1].seq, written[1].seq)
    await drop_rows(world, opened, said.seq, said.seq)
    backlog = PostgresBacklog(database_url, statement_timeout_s=30.0)
    await backlog.take()
    keys = [(group.dialog, each.seq) for each in (*written, written[0])] + [(group.dialog, 999), (opened, said.seq)]
    assert await backlog.list_sealed_left(keys) == [(group.dialog, written[1].seq)]
    for _ in range(2):
        await backlog.keep_commitments(rows)
    await backlog.release()
    assert await world.pool.fetchval(COUNT) == 1


async def test_a_report_is_kept_once_and_the_audit_trail_says_so(
    world: World, reports: Reports, group: SealedGroup
) -> None:
    (said, *_), (ann, bo, cy) = await three(group), group.members
    for reporter in (bo, bo, cy):
        report = SealedReport(7, reporter.principal, ann.principal, group.dialog, said.seq, b"sealed")
        await reports.keep(report, until_ms=1000)
    first, second = await reports.list(after=0, limit=9)
    assert (first.reporter, second.reporter, first.author) == (bo.principal, cy.principal, ann.principal)
    assert (first.sealed, first.at_ms, first.dialog, first.seq) == (b"sealed", 7, group.dialog, said.seq)
    assert await reports.list(after=first.number, limit=9) == [second]
    assert await reports.list(after=0, limit=1) == [first]
    lines = await world.pool.fetch("SELECT actor_id, subject_id FROM audit WHERE action = 'message.reported'")
    assert [tuple(line) for line in lines] == [(bo.principal, ann.principal), (cy.principal, ann.principal)]
    await erase_all(world, 999)
    assert len(await reports.list(after=0, limit=9)) == 2
    await erase_all(world, 1000)
    assert await reports.list(after=0, limit=9) == []


def draw_body(rng: random.Random) -> bodies.Posted | bodies.Edited | bodies.Reacted:
    """Content, with a header of any form."""
    number = rng.choice([0, 1, 127, 128, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**53 - 1])
    text = "é" * rng.choice([1, 2, 15, 16, 31, 100])
    header = Header(
        content_type=rng.choice(["", text]),
        reply_to=rng.choice([None, number or 1]),
        expires_at_ms=rng.choice([None, number]),
        ref=rng.choice([None, Ref(text, "x" * rng.choice([1, 31, 32, 128]))]),
        keys_seq=number,
        commitment=rng.choice([None, os.urandom(32)]),
        session=rng.choice([None, os.urandom(32)]),
        share=rng.choice([None, new_id()]),
    )
    payload = os.urandom(rng.choice([0, 1, 255, 256, 1024]))
    large = os.urandom(rng.choice([0, 300, 60_000]))
    match rng.randrange(3):
        case 0:
            return bodies.Posted(Kind.MESSAGE, header, large)
        case 1:
            return bodies.Edited(number or 1, large, header)
        case _:
            return bodies.Reacted(number or 1, payload, header)


async def test_the_database_finds_the_commitment_of_any_stored_body(world: World) -> None:
    rng = random.Random(7)
    drawn = [draw_body(rng) for _ in range(300)]
    encoded = [msgspec.msgpack.encode(body) for body in drawn]
    encoded += [msgspec.msgpack.encode([2, 7, b"an edit of a server without headers"])]
    found = await world.pool.fetch(
        "SELECT commitment_of(b) FROM unnest($1::bytea[]) WITH ORDINALITY AS x(b, ord) ORDER BY ord", encoded
    )
    assert [commitment for (commitment,) in found] == [*(body.header.commitment for body in drawn), None]
