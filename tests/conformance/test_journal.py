"""The write half: verdicts, numbers, idempotency, membership judged under the lock."""

from __future__ import annotations

import asyncio
import random

import msgspec
import pytest

from protocol import bodies
from protocol.dialog_types import DialogType, Mode
from protocol.ids import new_id, self_dialog_id
from storage.rows import ChangeEntry, ReceiptRow, VerdictCode
from storage.unavailable import IncarnationEndedError, NothingWrittenError, StorageUnavailableError
from tests.support.sealing import SHARED, one_device_of, share_with_all
from tests.support.world import Person, World, edit, message, reaction

pytestmark = pytest.mark.anyio

OK, DUPLICATE, CONFLICT, NUMBER_PASSED = (
    VerdictCode.OK,
    VerdictCode.DUPLICATE,
    VerdictCode.CONFLICT,
    VerdictCode.NUMBER_PASSED,
)
GONE = VerdictCode.NOT_FOUND


async def test_a_batch_is_numbered_in_its_order_and_counts_messages(world: World) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    verdicts = await world.flush(
        message(dialog, ann), message(dialog, bo), reaction(dialog, bo, 1), message(dialog, ann)
    )
    assert [v.code for v in verdicts] == [OK, OK, VerdictCode.EVENT_NOT_FOUND, OK]
    assert [v.seq for v in verdicts if v.code is OK] == [2, 3, 4]
    assert [v.messages for v in verdicts if v.code is OK] == [1, 2, 3]
    assert {v.member_count for v in verdicts} == {2}


async def test_a_retry_is_answered_with_the_first_numbers(world: World) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    sent = message(dialog, ann)
    first = (await world.flush(sent))[0]
    await world.say(dialog, ann)
    again = (await world.flush(sent))[0]
    assert (again.code, again.seq, again.at_ms, again.messages) == (DUPLICATE, first.seq, first.at_ms, first.messages)


async def test_another_body_under_a_used_number_is_a_conflict(world: World) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    await world.flush(message(dialog, ann, "one", n=5))
    assert (await world.flush(message(dialog, ann, "two", n=5)))[0].code is CONFLICT


def packed_without_defaults(body: bytes, fields: int) -> bytes:
    """The bytes of a server that does not know the last fields yet, which have their defaults."""
    values = msgspec.msgpack.decode(body)
    assert isinstance(values, list)
    values[2] = values[2][:fields]
    return msgspec.msgpack.encode(values)


async def test_a_retry_to_a_server_that_knows_more_fields_is_no_conflict(world: World) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    first, second, other = (message(dialog, ann, text) for text in ("one", "two", "three"))
    as_before = [
        msgspec.structs.replace(entry, body=packed_without_defaults(entry.body, 3)) for entry in (first, other)
    ]
    stored = await world.flush(as_before[0], second, as_before[1])
    changed = msgspec.structs.replace(other, body=message(dialog, ann, "four").body)
    again = await world.flush(first, second, changed)
    assert [verdict.code for verdict in again] == [DUPLICATE, DUPLICATE, CONFLICT]
    assert [(v.seq, v.at_ms, v.messages) for v in again[:2]] == [(v.seq, v.at_ms, v.messages) for v in stored[:2]]


async def test_another_author_under_a_used_number_is_a_conflict_whatever_the_body(world: World) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    sent = message(dialog, ann)
    await world.flush(msgspec.structs.replace(sent, body=packed_without_defaults(sent.body, 3)))
    assert (await world.flush(msgspec.structs.replace(sent, author=bo.principal)))[0].code is CONFLICT


async def test_a_number_that_was_passed_over_is_refused(world: World) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    await world.flush(message(dialog, ann, n=7))
    assert (await world.flush(message(dialog, ann, n=6)))[0].code is NUMBER_PASSED


async def test_a_passed_number_is_not_stored_and_never_will_be(world: World) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    chance, said = random.Random(7), {n: message(dialog, ann, f"{n}", n=n) for n in range(2, 32)}
    codes: dict[int, set[VerdictCode]] = {n: set() for n in said}
    for _ in range(4):
        order = chance.sample(sorted(said), len(said))
        for first in range(0, len(order), 5):
            batch = sorted(order[first : first + 5])
            for n, verdict in zip(batch, await world.flush(*(said[n] for n in batch)), strict=True):
                codes[n].add(verdict.code)
    rows = await world.pool.fetch("SELECT n FROM journal WHERE dialog_id = $1 AND device_id = $2", dialog, ann.device)
    stored = {row["n"] for row in rows} & set(said)
    assert codes == {n: {OK, DUPLICATE} if n in stored else {NUMBER_PASSED} for n in said}
    assert 0 < len(stored) < len(said)


async def test_the_same_number_of_two_devices_is_two_messages(world: World) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    verdicts = await world.flush(message(dialog, ann, n=5), message(dialog, bo, n=5))
    assert [(v.code, v.seq) for v in verdicts] == [(OK, 2), (OK, 3)]


async def test_a_stranger_learns_nothing_of_a_dialog(world: World) -> None:
    ann, bo, eve = await world.people(3)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    there, not_there = await world.flush(message(dialog, eve), message(new_id(), eve))
    assert (there.code, not_there.code) == (GONE, GONE)
    assert (there.seq, there.messages) == (not_there.seq, not_there.messages)
    assert (await world.act(bodies.MemberLeft, dialog, eve)).verdict.code is GONE


async def test_another_tenant_is_a_stranger(world: World) -> None:
    await world.pool.execute("INSERT INTO tenants VALUES (2, 'other')")
    ann, bo = await world.people(2)
    foreign = await world.person(tenant=2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    assert (await world.say(dialog, foreign)).code is GONE
    assert (await world.try_create(DialogType.DIRECT, ann, foreign))[0].verdict.code is VerdictCode.PRINCIPAL_NOT_FOUND


async def test_a_service_writes_without_being_a_member(world: World) -> None:
    ann, bo = await world.people(2)
    payments = await world.person(kind=4)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    assert (await world.say(dialog, payments)).code is OK


async def test_a_suspended_author_is_refused(world: World) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    await world.pool.execute("UPDATE principals SET status = 2 WHERE principal_id = $1", ann.principal)
    assert (await world.say(dialog, ann)).code is VerdictCode.SUSPENDED


async def test_only_admins_write_in_a_channel(world: World) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.CHANNEL, ann, bo)
    verdicts = await world.flush(message(dialog, ann), message(dialog, bo))
    assert [v.code for v in verdicts] == [OK, VerdictCode.ROLE_REQUIRED]


async def test_a_block_ends_a_direct_conversation_both_ways_of_asking(world: World) -> None:
    ann, bo = await world.people(2)
    await world.create(DialogType.SELF, bo)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    assert (await world.act(bodies.Blocked, self_dialog_id(bo.principal), bo, ann)).verdict.code is OK
    assert (await world.say(dialog, ann)).code is VerdictCode.BLOCKED
    assert (await world.say(dialog, bo)).code is OK
    refused, _ = await world.try_create(DialogType.GROUP, ann, bo, await world.person())
    assert refused.verdict.code is VerdictCode.BLOCKED
    assert (await world.act(bodies.Unblocked, self_dialog_id(bo.principal), bo, ann)).verdict.code is OK
    assert (await world.say(dialog, ann)).code is OK


async def test_a_removed_member_adds_nothing_and_still_learns_of_an_old_ack(world: World) -> None:
    ann, bo, cy = await world.people(3)
    dialog = await world.create(DialogType.GROUP, ann, bo, cy)
    sent = message(dialog, bo)
    first = (await world.flush(sent))[0]
    removal = await world.act(bodies.MemberRemoved, dialog, ann, bo)
    assert removal.verdict.seq == 3
    assert (await world.say(dialog, bo)).code is GONE
    assert (await world.flush(sent))[0] == msgspec.structs.replace(
        first, code=DUPLICATE, member_count=2, roster_seq=3, keys_seq=3
    )


async def test_a_sealed_envelope_of_an_older_roster_is_stale(world: World) -> None:
    ann, bo, cy = [*await world.people(2), await one_device_of(world)]
    dialog = await world.create(DialogType.GROUP, ann, bo, cy, mode=Mode.SEALED)
    removal = (await world.act(bodies.MemberRemoved, dialog, ann, bo)).verdict
    late = message(dialog, cy, session=SHARED)
    verdict = (await world.flush(late))[0]
    assert (verdict.code, verdict.keys_seq) == (VerdictCode.STALE, removal.seq)
    share = await share_with_all(world, dialog, cy, removal.seq)
    renewed = message(dialog, cy, n=late.n, keys_seq=verdict.keys_seq, session=SHARED, share=share)
    assert (await world.flush(renewed))[0].code is OK


async def test_a_sealed_envelope_of_a_roster_that_is_yet_to_come_is_stale(world: World) -> None:
    ann, bo, cy = [*await world.people(2), await one_device_of(world)]
    dialog = await world.create(DialogType.GROUP, ann, bo, cy, mode=Mode.SEALED)
    removal = (await world.act(bodies.MemberRemoved, dialog, ann, bo)).verdict
    share = await share_with_all(world, dialog, cy, removal.seq)
    ahead, fits = [
        message(dialog, cy, keys_seq=seq, session=SHARED, share=share) for seq in (removal.seq + 1, removal.seq)
    ]
    codes = [(await world.flush(each))[0].code for each in (ahead, fits)]
    assert codes == [VerdictCode.STALE, OK]


async def test_what_a_service_writes_has_no_keys_that_could_be_stale(world: World) -> None:
    ann, bo, cy = await world.people(3)
    service = await world.person(kind=4)
    dialog = await world.create(DialogType.GROUP, ann, bo, cy, mode=Mode.SEALED)
    await world.act(bodies.MemberRemoved, dialog, ann, bo)
    notice = msgspec.structs.replace(message(dialog, service), keys_seq=None)
    again = msgspec.structs.replace(message(dialog, service), keys_seq=None)
    (alone,) = await world.flush(notice)
    beside, late = await world.flush(again, message(dialog, cy, session=SHARED))
    assert [alone.code, beside.code, late.code] == [OK, OK, VerdictCode.STALE]


async def test_an_open_dialog_has_no_stale_envelopes(world: World) -> None:
    ann, bo, cy = await world.people(3)
    dialog = await world.create(DialogType.GROUP, ann, bo, cy, mode=Mode.OPEN)
    await world.act(bodies.MemberRemoved, dialog, ann, bo)
    assert (await world.say(dialog, cy)).code is OK


async def test_an_edit_is_of_ones_own_message(world: World) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    said = await world.say(dialog, ann)
    mine, theirs, of_nothing = await world.flush(
        edit(dialog, ann, said.seq), edit(dialog, bo, said.seq), edit(dialog, ann, 1)
    )
    assert (mine.code, theirs.code, of_nothing.code) == (OK, VerdictCode.EVENT_NOT_FOUND, VerdictCode.EVENT_NOT_FOUND)


async def test_a_reply_refers_to_a_visible_message_of_the_same_dialog(world: World) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    said = await world.say(dialog, ann)
    fine, wrong = await world.flush(message(dialog, bo, reply_to=said.seq), message(dialog, bo, reply_to=99))
    assert (fine.code, wrong.code) == (OK, VerdictCode.EVENT_NOT_FOUND)


async def test_changes_of_rosters_and_receipts_never_wait_in_a_circle(world: World) -> None:
    ann, *people = await world.people(13)
    dialogs = [await world.create(DialogType.GROUP, ann, *people) for _ in range(2)]
    changing = True

    async def read_on(step: int) -> None:
        read = 0
        while changing:
            read += 1
            receipts = [ReceiptRow(dialog, who.principal, read, read) for dialog in dialogs for who in people]
            await world.raise_receipts(*receipts[::step])

    async def come_and_go(dialog: bytes, some: list[Person]) -> None:
        for _ in range(15):
            for who in some:
                assert (await world.act(bodies.MemberRemoved, dialog, ann, who)).verdict.code is OK
            assert (await world.act(bodies.MembersAdded, dialog, ann, *some)).verdict.code is OK

    reading = [asyncio.ensure_future(read_on(step)) for step in (1, -1, 1)]
    await asyncio.gather(come_and_go(dialogs[0], people[:6]), come_and_go(dialogs[1], people[::-2]))
    changing = False
    await asyncio.gather(*reading)  # a deadlock would be an error of one of them


async def test_racing_flushers_leave_no_hole_and_no_duplicate(world: World) -> None:
    people = await world.people(6)
    dialogs = [await world.create(DialogType.GROUP, *people) for _ in range(3)]

    async def writer(index: int) -> None:
        me = people[index]
        for _ in range(15):
            batch = [message(dialogs[(index + step) % 3], me) for step in range(6)]
            pending = batch
            while pending:
                verdicts = await world.flush(*pending)
                assert {v.code for v in verdicts} <= {OK, DUPLICATE, VerdictCode.BUSY}
                pending = [e for e, v in zip(pending, verdicts, strict=True) if v.code is VerdictCode.BUSY]
            assert {v.code for v in await world.flush(*batch, wait=True)} == {DUPLICATE}

    await asyncio.gather(*(writer(index) for index in range(6)))
    for dialog in dialogs:
        rows = await world.timelines.read_events(people[0].principal, [(dialog, 1, 10_000)], limit=10_000)
        assert [row.seq for row in rows] == list(range(1, 6 * 30 + 2))
        assert len({(row.device, row.n) for row in rows}) == len(rows)
        for person in people:
            own = [row.n for row in rows if row.device == person.device]
            assert own == sorted(own)


async def test_a_busy_head_is_skipped_and_can_be_waited_for(world: World) -> None:
    ann, bo, cy = await world.people(3)
    held, free = await world.create(DialogType.DIRECT, ann, bo), await world.create(DialogType.DIRECT, ann, cy)
    async with world.held(held):
        verdicts = await world.flush(message(held, ann), message(free, ann))
        assert [v.code for v in verdicts] == [VerdictCode.BUSY, OK]
        waiting = asyncio.ensure_future(world.flush(message(held, ann), wait=True))
        await world.until_a_flush_waits()
    assert [v.code for v in await waiting] == [OK]


async def test_receipts_only_grow_and_never_pass_the_head(world: World) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    await world.say(dialog, ann)
    await world.say(dialog, ann)

    async def raise_to(delivered: int, read: int) -> list[tuple[int, int, int | None]]:
        grown = await world.raise_receipts(ReceiptRow(dialog, bo.principal, delivered, read))
        return [(m.delivered, m.read, m.read_messages) for m in grown]

    assert await raise_to(2, 0) == [(2, 0, 0)]
    assert await raise_to(1, 0) == []
    assert await raise_to(0, 99) == [(3, 3, 2)]
    stranger = await world.person()
    assert await world.raise_receipts(ReceiptRow(dialog, stranger.principal, 3, 3)) == []


async def test_the_horizon_stays_before_a_write_that_is_not_committed(world: World) -> None:
    before = await world.read_horizon()
    async with world.pool.acquire() as connection, connection.transaction():
        open_write = int(await connection.fetchval("SELECT pg_current_xact_id()::text"))
        await world.pool.execute("SELECT pg_current_xact_id()")  # commits, and is past it
        assert before <= await world.read_horizon() <= open_write
    assert await world.read_horizon() >= before


async def test_a_closed_database_is_unavailable_not_a_crash(world: World) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    await world.close()
    with pytest.raises(StorageUnavailableError):
        await world.say(dialog, ann)


async def test_what_holds_the_horizon_back_is_named(world: World) -> None:
    async with world.pool.acquire() as connection, connection.transaction():
        await connection.fetchval("SELECT pg_current_xact_id()")
        said = await world.journal.find_oldest_writer()
        pid = connection.get_server_pid()
    assert said.startswith(f"pid {pid}, idle in transaction in database test_")


async def test_nothing_is_written_for_an_incarnation_that_has_ended(world: World) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    await world.pool.execute("UPDATE incarnations SET ended_at_ms = 1 WHERE incarnation = $1", world.incarnation)
    for write in (
        lambda: world.say(dialog, ann),
        lambda: world.act(bodies.Deleted, dialog, ann, target=1),
        lambda: world.try_create(DialogType.SELF, ann),
        lambda: world.raise_receipts(ReceiptRow(dialog, ann.principal, 1, 1)),
        world.read_horizon,
    ):
        with pytest.raises(IncarnationEndedError):
            await write()
    assert await world.pool.fetchval("SELECT count(*) FROM journal") == 1


async def test_a_call_that_was_overtaken_writes_nothing_and_a_later_one_does(world: World) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    at = {"incarnation": world.incarnation, "flush_no": 1_000}
    await world.journal.overtake(1_000, incarnation=world.incarnation)
    await world.journal.overtake(999, incarnation=world.incarnation)
    for wait in (False, True):
        with pytest.raises(NothingWrittenError):
            await world.journal.flush([message(dialog, ann)], wait=wait, **at)
    with pytest.raises(NothingWrittenError):
        await world.journal.change(ChangeEntry(dialog, ann.principal, ann.device, ann.n(), bodies.Pinned(1)), **at)
    at["flush_no"] += 1
    (verdict,) = await world.journal.flush([message(dialog, ann)], wait=False, **at)
    assert (verdict.code, verdict.seq) == (OK, 2)


async def test_a_receipt_of_unknown_fate_is_returned_and_stamped_when_it_comes_again(world: World) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    mine = ReceiptRow(dialog, bo.principal, 1, 1)
    (raised,) = await world.raise_receipts(mine)
    assert await world.raise_receipts(mine) == []
    horizon = await world.read_horizon()
    assert await world.raise_receipts(msgspec.structs.replace(mine, again=True)) == [raised]
    # Who resumes from between the two learns of it.
    missed = await world.timelines.take_snapshot(ann.principal, ann.sign_in, horizon, window=9, events_max=9)
    assert [row.state.dialog for row in missed.page.dialogs] == [dialog]


async def test_receipts_of_another_epoch_are_not_raised(world: World) -> None:
    """Such a call may be on its way when a standby that was behind takes over: its numbers may be others by then."""
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    epoch = await world.read_epoch()
    receipt = ReceiptRow(dialog, bo.principal, 1, 1, again=True)
    for other in (epoch - 1, epoch + 1):
        assert await world.journal.raise_receipts([receipt], incarnation=world.incarnation, epoch=other) == []
    (raised,) = await world.journal.raise_receipts([receipt], incarnation=world.incarnation, epoch=epoch)
    assert raised.read == 1
