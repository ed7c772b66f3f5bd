"""What leaves the journal, what stays, and that nothing that members can do needs what has left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from protocol import bodies
from protocol.dialog_types import DialogType
from protocol.ids import new_id
from protocol.kinds import DAY_MS, KINDS, Kind
from server.writing.mover import Mover
from storage.local.archive import LocalArchive
from storage.postgres.archived_timelines import ArchivedTimelines
from storage.postgres.trimming import PostgresTrimming
from storage.rows import ChangeEntry, ReceiptRow, VerdictCode
from storage.trimming import TrimStep
from storage.unavailable import IncarnationEndedError, StorageUnavailableError
from tests.support.archiving import ArchiveThatMayBeAway, moving
from tests.support.world import Person, World, edit, message, reaction

pytestmark = pytest.mark.anyio

KEPT_MS = 31 * DAY_MS
LATER_MS = 2**42
"""A time at which all that the tests write is old."""
ERASED = msgspec.msgpack.encode(bodies.Erased())


@pytest.fixture
def archive() -> LocalArchive:
    """What the rows are moved to."""
    return LocalArchive()


@pytest.fixture
async def mover(database_url: str, archive: LocalArchive) -> AsyncIterator[Mover]:
    """What moves them."""
    async with moving(database_url, archive) as mover:
        yield mover


@pytest.fixture
def trimming(world: World) -> PostgresTrimming:
    """Trims one block at a time."""
    return PostgresTrimming(world.pool, world.writes or world.pool, step_blocks=1)


async def group(world: World) -> tuple[Person, Person, bytes]:
    """Two of the members of a group, and the group."""
    ann, bo, cy = await world.people(3)
    return ann, bo, await world.create(DialogType.GROUP, ann, bo, cy)


async def sweep(trimming: PostgresTrimming, now_ms: int = LATER_MS) -> int:
    """Two sweeps, because what hangs on a message leaves after it; how many rows they deleted."""
    rows = done = 0
    while done < 2:
        step = await trimming.trim(now_ms, kept_ms=KEPT_MS)
        rows += step.rows
        done += step.done
    return rows


async def seqs(world: World, dialog: bytes) -> list[int]:
    """The numbers of a dialog that the journal has."""
    return [row[0] for row in await world.pool.fetch("SELECT seq FROM journal WHERE dialog_id = $1 ORDER BY 1", dialog)]


async def retain(world: World, dialog: bytes, author: Person, days: int) -> None:
    """Let a dialog keep its messages for so many days."""
    body = bodies.SettingsChanged("name", "", "", bodies.Settings(message_retention_days=days))
    result = await world.change(ChangeEntry(dialog, author.principal, author.device, author.n(), body))
    assert result.verdict.code is VerdictCode.OK


async def put_back(world: World, trimming: PostgresTrimming, archive: LocalArchive, dialog: bytes, *of: int) -> None:
    """Put events back."""
    rows = await archive.read_rows(dialog, list(of))
    assert len(rows) == len(of)
    await trimming.put_back(rows, LATER_MS, incarnation=world.incarnation)


async def test_without_an_archive_nothing_leaves(world: World, trimming: PostgresTrimming) -> None:
    ann, _, dialog = await group(world)
    await world.say(dialog, ann)
    assert await sweep(trimming) == 0
    assert await seqs(world, dialog) == [1, 2]


async def test_content_leaves_and_what_names_dialogs_and_members_stays(
    world: World, trimming: PostgresTrimming, mover: Mover
) -> None:
    ann, bo, dialog = await group(world)
    await world.flush(message(dialog, ann), message(dialog, bo))
    await world.flush(edit(dialog, ann, 2), reaction(dialog, bo, 2))
    await world.act(bodies.Deleted, dialog, bo, target=3)
    await world.act(bodies.MemberLeft, dialog, bo)
    while (await world.journal.erase_due(LATER_MS, limit=10)).more:
        pass
    await mover.move()
    assert await sweep(trimming) == 4
    assert await seqs(world, dialog) == [1, 6, 7]
    (left,) = await world.timelines.read_dialogs(bo.principal, [dialog])
    assert (left.state.name, left.state.messages, left.state.seq) == ("name", 2, 7)


async def test_what_is_not_moved_or_not_old_stays(world: World, trimming: PostgresTrimming, mover: Mover) -> None:
    ann, _, dialog = await group(world)
    await world.say(dialog, ann)
    await mover.move()
    await world.say(dialog, ann)
    at_ms = await world.pool.fetchval("SELECT at_ms FROM journal WHERE dialog_id = $1 AND seq = 2", dialog)
    assert await sweep(trimming, at_ms + KEPT_MS) == 0
    assert await sweep(trimming) == 1
    assert await seqs(world, dialog) == [1, 3]


async def test_what_has_a_time_of_its_own_waits_for_it(world: World, trimming: PostgresTrimming, mover: Mover) -> None:
    ann, bo, dialog = await group(world)
    kept = next(kind for kind in Kind if KINDS[kind].kept_days_min)
    await world.flush(message(dialog, ann, expires_at_ms=LATER_MS), message(dialog, ann, kind=kept))
    retained = await world.create(DialogType.GROUP, ann, bo, *await world.people(1))
    await world.flush(message(retained, ann))
    await retain(world, retained, ann, 30_000)
    await mover.move()
    written_ms = await world.pool.fetchval("SELECT max(at_ms) FROM journal")
    soon_ms = written_ms + KEPT_MS + 1
    assert await sweep(trimming, soon_ms) == 0
    kept_ms = KINDS[kept].kept_days_min * DAY_MS
    assert await sweep(trimming, max(soon_ms, written_ms + kept_ms)) == 1
    assert await seqs(world, dialog) == [1, 2]
    assert await seqs(world, retained) == [1, 2, 3]


async def test_an_erasure_that_the_archive_does_not_know_keeps_its_rows(
    world: World, trimming: PostgresTrimming, archive: LocalArchive, mover: Mover
) -> None:
    ann, bo, dialog = await group(world)
    await world.say(dialog, ann)
    await world.flush(reaction(dialog, bo, 2))
    await mover.move()
    await world.act(bodies.Deleted, dialog, ann, target=2)
    assert await sweep(trimming) == 0  # something hangs on it that is not blank yet
    while (await world.journal.erase_due(LATER_MS, limit=10)).more:
        pass
    assert await sweep(trimming) == 0  # the archive still has what it was
    await mover.move()
    assert await sweep(trimming) == 2
    assert await seqs(world, dialog) == [1, 4]
    assert [bytes(row.event.body) for row in await archive.read_rows(dialog, [2, 3])] == [ERASED] * 2


async def test_a_row_that_is_erased_while_a_step_deletes_it_stays(
    world: World, trimming: PostgresTrimming, mover: Mover
) -> None:
    ann, _, dialog = await group(world)
    await world.say(dialog, ann)
    await mover.move()
    async with world.pool.acquire() as connection, connection.transaction():
        await world.over(connection).act(bodies.Deleted, dialog, ann, target=2)
        step = asyncio.ensure_future(sweep(trimming))
        async with asyncio.timeout(20):
            while not await world.pool.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                pass
    assert await step == 0
    assert await seqs(world, dialog) == [1, 2, 3]


async def test_two_steps_do_not_run_at_once(world: World, trimming: PostgresTrimming, mover: Mover) -> None:
    ann, _, dialog = await group(world)
    await world.say(dialog, ann)
    await mover.move()
    async with world.pool.acquire() as connection, connection.transaction():
        (row,) = await connection.fetch("SELECT rows FROM trim_journal($1, $2, 1)", LATER_MS, KEPT_MS)
        assert (row[0], await sweep(trimming)) == (1, 0)


async def test_a_sweep_goes_on_where_the_step_before_ended(
    world: World, trimming: PostgresTrimming, mover: Mover
) -> None:
    ann, _, dialog = await group(world)
    for _ in range(3):
        await world.flush(*(message(dialog, ann, "x" * 1500) for _ in range(10)))
    await mover.move()
    steps: list[TrimStep] = []
    while not steps or not steps[-1].done:
        steps.append(await trimming.trim(LATER_MS, kept_ms=KEPT_MS))
    assert len(steps) > 3
    assert max(step.rows for step in steps) < 10
    assert sum(step.rows for step in steps) == 30
    assert await seqs(world, dialog) == [1]


async def trimmed(world: World, trimming: PostgresTrimming, mover: Mover) -> tuple[Person, Person, bytes]:
    """A group in which 2 and 4 are messages of the first person, 3 one of the second; all of them have left."""
    ann, bo, dialog = await group(world)
    await world.flush(message(dialog, ann), message(dialog, bo), message(dialog, ann))
    await mover.move()
    assert await sweep(trimming) == 3
    return ann, bo, dialog


async def test_what_is_about_a_row_that_has_left_is_judged_when_it_is_back(
    world: World, trimming: PostgresTrimming, archive: LocalArchive, mover: Mover
) -> None:
    ann, bo, dialog = await trimmed(world, trimming, mover)
    own, foreign, react, reply = edit(dialog, ann, 2), edit(dialog, bo, 2), reaction(dialog, bo, 2), 2
    answer = message(dialog, ann, reply_to=reply)
    other = message(await world.create(DialogType.SELF, ann), ann)
    entries = [own, foreign, react, answer, other]
    codes = [verdict.code for verdict in await world.flush(*entries)]
    assert codes == [VerdictCode.TARGET_ARCHIVED] * 4 + [VerdictCode.OK]
    await put_back(world, trimming, archive, dialog, 2)
    codes = [verdict.code for verdict in await world.flush(*entries)]
    ok = VerdictCode.OK
    assert codes == [ok, VerdictCode.EVENT_NOT_FOUND, ok, ok, VerdictCode.DUPLICATE]


async def test_what_the_archive_has_of_a_lost_history_is_not_put_back(
    world: World, trimming: PostgresTrimming, archive: LocalArchive, mover: Mover
) -> None:
    ann, _, dialog = await group(world)
    await world.flush(message(dialog, ann), message(dialog, ann))
    await mover.move()
    await world.pool.execute("DELETE FROM journal WHERE dialog_id = $1 AND seq > 1", dialog)
    await world.pool.execute("UPDATE heads SET seq = 2 WHERE dialog_id = $1", dialog)  # as after a restore
    await put_back(world, trimming, archive, dialog, 2, 3)
    assert await seqs(world, dialog) == [1, 2]
    assert [verdict.seq for verdict in await world.flush(message(dialog, ann, "another"))] == [3]


async def test_nothing_of_a_device_overtakes_what_is_about_a_row_that_has_left(
    world: World, trimming: PostgresTrimming, archive: LocalArchive, mover: Mover
) -> None:
    ann, bo, dialog = await trimmed(world, trimming, mover)
    entries = [message(dialog, ann), message(dialog, ann, reply_to=2), message(dialog, ann), message(dialog, bo)]
    codes = [verdict.code for verdict in await world.flush(*entries)]
    archived, ok = VerdictCode.TARGET_ARCHIVED, VerdictCode.OK
    assert codes == [ok, archived, archived, ok]
    await put_back(world, trimming, archive, dialog, 2)
    codes = [verdict.code for verdict in await world.flush(*entries)]
    assert codes == [VerdictCode.DUPLICATE, ok, ok, VerdictCode.DUPLICATE]


async def test_who_may_not_see_a_row_does_not_learn_that_it_has_left(
    world: World, trimming: PostgresTrimming, mover: Mover
) -> None:
    ann, _, dialog = await trimmed(world, trimming, mover)
    (cy,) = await world.people(1)
    assert [verdict.code for verdict in await world.flush(reaction(dialog, cy, 2))] == [VerdictCode.NOT_FOUND]
    beyond = await world.flush(reaction(dialog, ann, 99), reaction(dialog, ann, 0))
    assert [verdict.code for verdict in beyond] == [VerdictCode.EVENT_NOT_FOUND] * 2


async def test_a_row_that_has_left_can_be_deleted_and_pinned_when_it_is_back(
    world: World, trimming: PostgresTrimming, archive: LocalArchive, mover: Mover
) -> None:
    ann, bo, dialog = await trimmed(world, trimming, mover)
    pin = ChangeEntry(dialog, ann.principal, ann.device, ann.n(), bodies.Pinned(4))
    delete = ChangeEntry(dialog, ann.principal, ann.device, ann.n(), bodies.Deleted(2))
    foreign = ChangeEntry(dialog, bo.principal, bo.device, bo.n(), bodies.Deleted(2))
    for entry in (pin, delete, foreign):
        assert (await world.change(entry)).verdict.code is VerdictCode.TARGET_ARCHIVED
    await put_back(world, trimming, archive, dialog, 2, 4)
    assert (await world.change(foreign)).verdict.code is VerdictCode.EVENT_NOT_FOUND
    for entry in (pin, delete):
        assert (await world.change(entry)).verdict.code is VerdictCode.OK
    await mover.move()
    assert [bytes(row.event.body) for row in await archive.read_rows(dialog, [2])] == [ERASED]


async def test_a_receipt_of_a_row_that_has_left_waits_until_it_is_back(
    world: World, trimming: PostgresTrimming, archive: LocalArchive, mover: Mover
) -> None:
    ann, bo, dialog = await trimmed(world, trimming, mover)
    (waits,) = await world.raise_receipts(ReceiptRow(dialog, bo.principal, 3, 3))
    assert (waits.read, waits.read_messages) == (3, None)
    (state,) = await world.timelines.read_dialogs(bo.principal, [dialog])
    assert (state.state.read, state.state.delivered) == (0, 0)
    (newest,) = await world.raise_receipts(ReceiptRow(dialog, ann.principal, 4, 4))
    assert (newest.read, newest.read_messages) == (4, 3)  # the head knows
    await put_back(world, trimming, archive, dialog, 3)
    (raised,) = await world.raise_receipts(ReceiptRow(dialog, bo.principal, 3, 3))
    assert (raised.read, raised.read_messages) == (3, 2)


async def test_what_was_put_back_is_as_it_was_and_leaves_again_after_a_day(
    world: World, trimming: PostgresTrimming, archive: LocalArchive, mover: Mover
) -> None:
    ann, _, dialog = await group(world)
    await world.say(dialog, ann)
    await world.flush(reaction(dialog, ann, 2))
    columns = "SELECT seq, author_id, device_id, n, tag, target, at_ms, messages, body FROM journal ORDER BY 1"
    await mover.move()
    before = await world.pool.fetch(columns)
    assert await sweep(trimming) == 2
    for _ in range(2):
        await put_back(world, trimming, archive, dialog, 2, 3)
    assert await world.pool.fetch(columns) == before
    assert await sweep(trimming, LATER_MS + DAY_MS - 1) == 0
    assert await sweep(trimming, LATER_MS + DAY_MS) == 2
    assert await world.pool.fetchval("SELECT count(*) FROM put_back") == 0


async def test_a_row_that_was_erased_after_it_was_read_comes_back_blank(
    world: World, trimming: PostgresTrimming, archive: LocalArchive, mover: Mover
) -> None:
    ann, _, dialog = await trimmed(world, trimming, mover)
    rows = await archive.read_rows(dialog, [2])
    await put_back(world, trimming, archive, dialog, 2)
    await world.act(bodies.Deleted, dialog, ann, target=2)
    await world.pool.execute("DELETE FROM journal WHERE dialog_id = $1 AND seq = 2", dialog)
    await trimming.put_back(rows, LATER_MS, incarnation=world.incarnation)
    assert await world.pool.fetchval("SELECT body FROM journal WHERE dialog_id = $1 AND seq = 2", dialog) == ERASED


async def test_an_incarnation_that_has_ended_puts_nothing_back(
    world: World, trimming: PostgresTrimming, archive: LocalArchive, mover: Mover
) -> None:
    _, _, dialog = await trimmed(world, trimming, mover)
    await world.pool.execute("UPDATE incarnations SET ended_at_ms = 1")
    with pytest.raises(IncarnationEndedError):
        await put_back(world, trimming, archive, dialog, 2)
    assert await seqs(world, dialog) == [1]


async def test_a_number_that_has_left_stays_taken(world: World, trimming: PostgresTrimming, mover: Mover) -> None:
    ann, _, dialog = await group(world)
    sent = message(dialog, ann)
    await world.flush(sent)
    await mover.move()
    await sweep(trimming)
    assert [verdict.code for verdict in await world.flush(sent)] == [VerdictCode.NUMBER_PASSED]
    assert (await world.say(dialog, ann)).seq == 3


async def test_a_position_from_before_what_has_left_is_not_recovered(
    world: World, trimming: PostgresTrimming, mover: Mover
) -> None:
    ann, bo, dialog = await group(world)
    before = await world.read_horizon()
    await world.flush(message(dialog, ann), message(dialog, ann))
    after = await world.read_horizon()
    await mover.move()
    await sweep(trimming)
    await world.say(dialog, ann)
    taken = await world.timelines.take_snapshot(bo.principal, bo.sign_in, before, window=9, events_max=99)
    assert not taken.recovered
    taken = await world.timelines.take_snapshot(bo.principal, bo.sign_in, after, window=9, events_max=99)
    assert taken.recovered
    assert [row.unseen_from for row in taken.page.dialogs] == [4]


async def test_a_step_reads_its_blocks_only(world: World) -> None:
    plan = await world.pool.fetch(
        "EXPLAIN SELECT ctid FROM journal j WHERE j.ctid >= '(5,0)'::tid AND j.ctid < '(9,0)'::tid AND j.at_ms < 5"
    )
    assert "Tid Range Scan" in plan[0][0]


async def test_what_has_left_is_read_from_the_archive_between_what_stays(
    world: World, trimming: PostgresTrimming, archive: LocalArchive, mover: Mover
) -> None:
    ann, bo, dialog = await group(world)
    await world.flush(message(dialog, ann), message(dialog, bo), message(dialog, ann))
    await world.flush(reaction(dialog, bo, 2), edit(dialog, ann, 4))
    await world.act(bodies.Deleted, dialog, bo, target=3)
    await world.act(bodies.Promoted, dialog, ann, bo)
    await world.say(dialog, bo)
    me, everything = bo.principal, [(dialog, 1, 99)]
    events = await world.timelines.read_events(me, everything, limit=99)
    newest = await world.timelines.read_newest(me, dialog, 1, 6, limit=4)
    later = await world.timelines.read_later(me, dialog, 2, 4, newest_first=True)
    await mover.move()
    assert await sweep(trimming) == 5  # 3 waits for what may hang on it
    assert await seqs(world, dialog) == [1, 3, 7, 8]
    both = ArchivedTimelines(world.pool, archive, timeout_s=30.0)
    assert await both.read_events(me, everything, limit=99) == events
    assert await both.read_newest(me, dialog, 1, 6, limit=4) == newest
    assert await both.read_later(me, dialog, 2, 4, newest_first=True) == later


async def test_a_dialog_is_read_without_the_archive_from_where_the_journal_holds_it_whole(
    world: World, trimming: PostgresTrimming, mover: Mover
) -> None:
    ann, _, dialog = await trimmed(world, trimming, mover)
    await world.flush(*(message(dialog, ann) for _ in range(4)))
    later = await world.create(DialogType.SELF, ann)
    await world.say(later, ann)
    away = ArchiveThatMayBeAway()
    away.answers = 0
    both = ArchivedTimelines(world.pool, away, timeout_s=30.0)
    for timelines in (world.timelines, both):
        assert await timelines.find_held([dialog, later, new_id()]) == {dialog: 5, later: 1}
    events = await both.read_events(ann.principal, [(dialog, 5, 9), (later, 1, 9)], limit=9)
    assert [event.seq for event in events] == [5, 6, 7, 8, 1, 2]
    assert not away.reads
    with pytest.raises(StorageUnavailableError):
        await both.read_events(ann.principal, [(dialog, 4, 9)], limit=9)


async def test_a_retention_that_begins_later_erases_what_has_left(
    world: World, trimming: PostgresTrimming, archive: LocalArchive, mover: Mover
) -> None:
    ann, _, dialog = await trimmed(world, trimming, mover)
    await retain(world, dialog, ann, 1)
    step = await world.journal.erase_due(LATER_MS, limit=10)
    assert step.lacking == (dialog, 2, 4)
    await put_back(world, trimming, archive, dialog, 2, 3)
    step = await world.journal.erase_due(LATER_MS + 10_000, limit=10)
    assert step.lacking == (dialog, 4, 4)
    await put_back(world, trimming, archive, dialog, 4)
    assert (await world.journal.erase_due(LATER_MS + 20_000, limit=10)).lacking is None
    await mover.move()
    assert [bytes(row.event.body) for row in await archive.read_rows(dialog, [2, 3, 4])] == [ERASED] * 3


async def test_dialogs_of_which_something_has_left_do_not_wait_for_each_other(
    world: World, trimming: PostgresTrimming, mover: Mover
) -> None:
    dialogs = {dialog: ann for ann, _, dialog in [await group(world) for _ in range(3)]}
    for dialog, ann in dialogs.items():
        await world.say(dialog, ann)
    await mover.move()
    await sweep(trimming)
    for dialog, ann in dialogs.items():
        await retain(world, dialog, ann, 1)
    steps = [await world.journal.erase_due(LATER_MS, limit=10) for _ in range(4)]
    assert [step.more for step in steps] == [True, True, True, False]
    assert {step.lacking[0] for step in steps if step.lacking} == set(dialogs)


async def test_what_has_left_at_the_end_of_a_dialog_is_lacking_too(world: World, mover: Mover) -> None:
    ann, _, dialog = await group(world)
    await retain(world, dialog, ann, 1)
    while (await world.journal.erase_due(LATER_MS, limit=10)).more:
        pass
    await world.flush(message(dialog, ann), message(dialog, ann))
    await world.pool.execute("UPDATE retention SET due_ms = $1", LATER_MS + DAY_MS)
    await mover.move()
    await world.pool.execute("DELETE FROM journal WHERE seq > 2")
    assert (await world.journal.erase_due(LATER_MS, limit=10)).lacking is None
    assert (await world.journal.erase_due(LATER_MS + DAY_MS, limit=10)).lacking == (dialog, 3, 4)


async def test_what_was_put_back_is_lacked_by_no_position(
    world: World, trimming: PostgresTrimming, archive: LocalArchive, mover: Mover
) -> None:
    ann, bo, dialog = await trimmed(world, trimming, mover)
    position = await world.read_horizon()
    await put_back(world, trimming, archive, dialog, 2, 3, 4)
    await world.say(dialog, ann)
    taken = await world.timelines.take_snapshot(bo.principal, bo.sign_in, position, window=9, events_max=99)
    assert [row.unseen_from for row in taken.page.dialogs] == [5]


async def test_what_hangs_on_a_message_leaves_after_it(world: World, trimming: PostgresTrimming, mover: Mover) -> None:
    ann, bo, dialog = await group(world)
    await world.say(dialog, ann)
    await world.flush(reaction(dialog, bo, 2))
    await mover.move()
    left = []
    for _ in range(2):
        while not (await trimming.trim(LATER_MS, kept_ms=KEPT_MS)).done:
            pass
        left.append(await seqs(world, dialog))
    assert left == [[1, 3], [1]]
