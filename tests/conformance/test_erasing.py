"""Erasing: by members, by a message's own time, by the retention of a dialog; always in small steps."""

from __future__ import annotations

import asyncio
import time

import msgspec
import pytest

from protocol import bodies
from protocol.bodies import AnyBody, Settings, SettingsChanged
from protocol.dialog_types import DialogType
from protocol.kinds import DAY_MS, KINDS, Kind
from storage.rows import ChangeEntry, Entry, Verdict, VerdictCode
from tests.support.world import Person, World, edit, message, reaction

pytestmark = pytest.mark.anyio


@pytest.fixture
def world(each_world: World) -> World:
    """Its rows are read from the journal, from an archive, and from both."""
    return each_world


ERASED = bodies.Erased()
UPDATED = "SELECT n_tup_upd FROM pg_stat_xact_user_tables WHERE relname = 'journal'"


def now_ms() -> int:
    return time.time_ns() // 1_000_000


async def stored(world: World, dialog: bytes) -> dict[int, AnyBody]:
    """The rows themselves."""
    rows = await world.pool.fetch("SELECT seq, body FROM journal WHERE dialog_id = $1 ORDER BY seq", dialog)
    return {seq: msgspec.msgpack.decode(body, type=AnyBody) for seq, body in rows}


async def shown(world: World, who: Person, dialog: bytes) -> dict[int, AnyBody]:
    """What a member reads."""
    rows = await world.timelines.read_events(who.principal, [(dialog, 1, 10_000)], limit=10_000)
    return {row.seq: msgspec.msgpack.decode(row.body, type=AnyBody) for row in rows}


async def erase_all(world: World, at_ms: int, limit: int = 500) -> int:
    """Step by step until nothing is due; how many steps."""
    for step in range(1, 1000):
        if not (await world.journal.erase_due(at_ms, limit=limit)).more:
            return step
    raise AssertionError("erasing does not end")


async def keep_for(world: World, dialog: bytes, admin: Person, days: int) -> None:
    settings = SettingsChanged("name", "", "", Settings(message_retention_days=days))
    entry = ChangeEntry(dialog, admin.principal, admin.device, admin.n(), settings)
    assert (await world.change(entry)).verdict.code is VerdictCode.OK


async def post(world: World, *entries: Entry) -> list[Verdict]:
    verdicts = await world.flush(*entries)
    assert {verdict.code for verdict in verdicts} == {VerdictCode.OK}
    return verdicts


async def test_a_delete_of_a_message_with_many_reactions_changes_a_handful_of_rows(world: World) -> None:
    ann, bo, cy, di = await world.people(4)
    dialog, other = await world.create(DialogType.DIRECT, ann, bo), await world.create(DialogType.DIRECT, cy, di)
    said = await world.say(dialog, ann)
    await world.pool.execute(
        "INSERT INTO journal (dialog_id, seq, author_id, device_id, n, tag, target, at_ms, messages, incarnation,"
        " flush_no, body) SELECT $1, 2 + g, $2, $3, g, 4, 2, 0, 1, 1, 1, $4 FROM generate_series(1, 10000) g",
        dialog,
        bo.principal,
        bo.device,
        msgspec.msgpack.encode(bodies.Reacted(2, b"+1")),
    )
    await world.pool.execute("UPDATE heads SET seq = 10002 WHERE dialog_id = $1", dialog)
    delete = ChangeEntry(dialog, ann.principal, ann.device, ann.n(), bodies.Deleted(said.seq))
    async with world.pool.acquire() as connection, connection.transaction():
        on_one = world.over(connection)
        assert (await on_one.change(delete)).verdict.code is VerdictCode.OK
        assert await connection.fetchval(UPDATED) == 1
    strangers = asyncio.ensure_future(world.say(other, cy))
    step = await world.journal.erase_due(now_ms(), limit=500)
    assert (step.more, step.rows <= 502, (await strangers).code) == (True, True, VerdictCode.OK)
    page = await world.timelines.read_events(bo.principal, [(dialog, 9_990, 10_002)], limit=99)
    assert {bytes(row.body) for row in page} == {msgspec.msgpack.encode(ERASED)}


async def test_what_hangs_on_an_erased_message_counts_as_erased_before_it_is(world: World) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    said, kept = await post(world, message(dialog, ann), message(dialog, ann))
    corrected = edit(dialog, ann, said.seq, "secret")
    await post(world, corrected, reaction(dialog, bo, said.seq), reaction(dialog, bo, kept.seq))
    await world.act(bodies.Deleted, dialog, bo, target=said.seq)
    assert (await world.act(bodies.Deleted, dialog, ann, target=said.seq)).verdict.code is VerdictCode.OK

    assert isinstance((await stored(world, dialog))[4], bodies.Edited)
    assert list((await shown(world, bo, dialog)).values())[1:6] == [
        ERASED,
        bodies.Posted(Kind.MESSAGE, bodies.Header(), b"hello"),
        ERASED,
        ERASED,
        bodies.Reacted(kept.seq, b"+"),
    ]
    newest = await world.timelines.read_newest(bo.principal, dialog, 4, 5, limit=9)
    assert {bytes(row.body) for row in newest} == {msgspec.msgpack.encode(ERASED)}
    later = await world.timelines.read_later(bo.principal, dialog, 1, 3, newest_first=True)
    assert {target: [row.seq for row in rows] for target, rows in later.events.items()} == {2: [7], 3: [6]}
    (again,) = await world.flush(corrected)
    assert (again.code, again.erased, again.seq) == (VerdictCode.DUPLICATE, True, 4)
    (refused,) = await world.flush(edit(dialog, ann, said.seq))
    assert refused.code is VerdictCode.EVENT_NOT_FOUND

    before = await shown(world, bo, dialog)
    await erase_all(world, now_ms())
    assert await stored(world, dialog) == await shown(world, bo, dialog) == before
    assert await world.pool.fetchval("SELECT count(*) FROM erasures") == 0
    assert (await world.flush(corrected))[0].erased


async def test_erasing_goes_on_where_the_step_before_ended(world: World) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    said = await world.say(dialog, ann)
    await post(world, *(reaction(dialog, bo, said.seq) for _ in range(25)))
    await world.act(bodies.Deleted, dialog, ann, target=said.seq)
    steps = [await world.journal.erase_due(now_ms(), limit=10) for _ in range(3)]
    assert [step.more for step in steps] == [True, True, False]
    assert [step.oldest_due_ms is None for step in steps] == [False, False, True]
    assert not any(isinstance(body, bodies.Reacted) for body in (await stored(world, dialog)).values())


async def test_two_nodes_do_not_erase_at_once(world: World) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    said = await world.say(dialog, ann)
    await post(world, reaction(dialog, bo, said.seq))
    await world.act(bodies.Deleted, dialog, ann, target=said.seq)
    async with world.pool.acquire() as connection, connection.transaction():
        first = await world.over(connection).journal.erase_due(now_ms(), limit=10)
        second = await world.journal.erase_due(now_ms(), limit=10)
    assert (first.rows > 0, second.rows, second.more) == (True, 0, False)


@pytest.mark.parametrize("kind", list(Kind), ids=lambda kind: kind.name)
async def test_a_kind_that_must_be_kept_cannot_be_deleted_by_anybody_before_its_time(world: World, kind: Kind) -> None:
    ann, bo, cy = await world.people(3)
    dialog = await world.create(DialogType.GROUP, ann, bo, cy)
    (posted,) = await post(world, message(dialog, ann, kind=kind))
    deleted = await world.act(bodies.Deleted, dialog, ann, target=posted.seq)
    kept_days = KINDS[kind].kept_days_min
    assert deleted.verdict.code is (VerdictCode.NOT_ALLOWED if kept_days else VerdictCode.OK)
    if kept_days:
        assert kind in (Kind.PAYMENT, Kind.ORDER, Kind.BOOKING)
        assert isinstance((await shown(world, bo, dialog))[posted.seq], bodies.Posted)
        await world.pool.execute("UPDATE journal SET at_ms = at_ms - $1", kept_days * DAY_MS)
        deleted = await world.act(bodies.Deleted, dialog, ann, target=posted.seq)
        assert deleted.verdict.code is VerdictCode.OK


async def test_a_message_is_erased_when_its_time_is_over_with_what_hangs_on_it(world: World) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    ends = now_ms() + 1000
    short = message(dialog, ann, "short", expires_at_ms=ends)
    said, _ = await post(world, short, message(dialog, ann))
    await post(world, edit(dialog, ann, said.seq), reaction(dialog, bo, said.seq))
    await erase_all(world, ends - 1)
    assert ERASED not in (await shown(world, bo, dialog)).values()
    assert (await world.journal.erase_due(ends, limit=500)).rows == 1
    assert [seq for seq, body in (await shown(world, bo, dialog)).items() if body == ERASED] == [2, 4, 5]
    assert [seq for seq, body in (await stored(world, dialog)).items() if body == ERASED] == [2]
    await erase_all(world, ends + 3_600_000)
    assert [seq for seq, body in (await stored(world, dialog)).items() if body == ERASED] == [2, 4, 5]
    (again,) = await world.flush(short)
    assert (again.code, again.erased, again.seq) == (VerdictCode.DUPLICATE, True, said.seq)


async def test_an_edit_that_was_judged_before_the_erasure_and_commits_after_it_is_blanked_too(world: World) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    ends = now_ms()
    (said,) = await post(world, message(dialog, ann, expires_at_ms=ends))
    async with world.pool.acquire() as connection, connection.transaction():
        (late,) = await world.over(connection).flush(edit(dialog, ann, said.seq))
        await world.journal.erase_due(ends, limit=500)
    assert (late.code, (await shown(world, bo, dialog))[late.seq]) == (VerdictCode.OK, ERASED)
    await erase_all(world, ends + 3_600_000)
    assert (await stored(world, dialog))[late.seq] == ERASED


async def test_a_dialog_keeps_its_messages_for_the_days_of_its_setting(world: World) -> None:
    ann, bo, cy = await world.people(3)
    dialog, other = await world.create(DialogType.GROUP, ann, bo, cy), await world.create(DialogType.DIRECT, ann, bo)
    await world.say(other, ann)
    await post(world, *(message(dialog, ann) for _ in range(20)))
    await keep_for(world, dialog, ann, 30)
    await world.pool.execute("UPDATE journal SET at_ms = at_ms - $1 WHERE seq > 11", -60_000)
    at = now_ms() + 30 * DAY_MS
    before = await world.timelines.read_dialogs(bo.principal, [dialog])
    assert await erase_all(world, at, limit=7) > 1
    held = await shown(world, bo, dialog)
    assert [seq for seq, body in held.items() if body == ERASED] == list(range(2, 12))
    assert isinstance(held[1], bodies.DialogCreated)
    assert isinstance(held[22], SettingsChanged)
    await erase_all(world, at + 120_000)
    assert {seq for seq, body in (await stored(world, dialog)).items() if body == ERASED} == set(range(2, 22))
    assert ERASED not in (await stored(world, other)).values()
    assert await world.timelines.read_dialogs(bo.principal, [dialog]) == before


async def test_what_must_be_kept_outlives_the_retention_of_its_dialog_and_its_own_time(world: World) -> None:
    ann, bo, cy = await world.people(3)
    dialog = await world.create(DialogType.GROUP, ann, bo, cy)
    payment, order, _ = await post(
        world,
        message(dialog, ann, kind=Kind.PAYMENT),
        message(dialog, ann, kind=Kind.ORDER, expires_at_ms=now_ms()),
        message(dialog, ann),
    )
    await keep_for(world, dialog, ann, 1)
    await erase_all(world, now_ms() + 2 * DAY_MS)
    kept = {payment.seq, order.seq}
    held = await shown(world, bo, dialog)
    assert {seq for seq, body in held.items() if isinstance(body, bodies.Posted)} == kept
    years = KINDS[Kind.PAYMENT].kept_days_min * DAY_MS
    assert await erase_all(world, now_ms() + years - 60_000) == 1
    assert (await shown(world, bo, dialog)) == held
    await erase_all(world, now_ms() + years + 60_000)
    assert {seq for seq, body in (await shown(world, bo, dialog)).items() if body == ERASED} >= kept


async def test_a_retention_that_is_turned_off_erases_nothing_more(world: World) -> None:
    ann, bo, cy = await world.people(3)
    dialog = await world.create(DialogType.GROUP, ann, bo, cy)
    await world.say(dialog, ann)
    await keep_for(world, dialog, ann, 1)
    await keep_for(world, dialog, ann, 0)
    await erase_all(world, now_ms() + 9 * DAY_MS)
    assert ERASED not in (await shown(world, bo, dialog)).values()
    await keep_for(world, dialog, ann, 1)
    await erase_all(world, now_ms() + 9 * DAY_MS)
    assert (await shown(world, bo, dialog))[2] == ERASED
