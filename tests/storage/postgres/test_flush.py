"""What `flush` and the changes do to PostgreSQL: locks, stamps, and what a refusal leaves behind."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import asyncpg
import msgspec
import pytest

from protocol import bodies
from protocol.dialog_types import DialogType, Mode, Role
from protocol.ids import new_id
from protocol.limits import VISIBLE_INTERVALS_MAX
from storage.postgres import functions
from storage.postgres.journal import PostgresJournal
from storage.postgres.shares import PostgresShares
from storage.rows import Verdict, VerdictCode
from storage.shares import StagedSlices
from storage.unavailable import NothingWrittenError
from tests.support.identity_people import NOW
from tests.support.sealing import one_device_of
from tests.support.world import Person, World, edit, message, reaction

pytestmark = pytest.mark.anyio

NOT_FOUND = VerdictCode.NOT_FOUND

_ROWS_READ = """
SELECT sum(seq_tup_read + idx_tup_fetch)::bigint FROM pg_stat_xact_user_tables
WHERE relname IN ('heads', 'members', 'authors', 'journal', 'blocks')
"""


class OneConnection:
    """Writes over one connection, so that a call can be part of a transaction of the test."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        rows: list[asyncpg.Record] = await self._connection.fetch(query, *arguments)
        return rows


@contextlib.contextmanager
def writing_by(world: World, connection: Any) -> Iterator[None]:
    """Writes of this world go over that connection."""
    journal, world.journal = world.journal, PostgresJournal(world.pool, OneConnection(connection))
    yield
    world.journal = journal


async def refusals_of(world: World, author: Person, dialog: bytes) -> tuple[list[Verdict], int]:
    """Every kind of write of an author in a dialog: the verdicts, and how many rows were read for them.

    None of them takes a transaction id, so none writes anything.
    """
    async with world.pool.acquire() as connection, connection.transaction():
        before = await connection.fetchval(_ROWS_READ)
        with writing_by(world, connection):
            verdicts = await world.flush(message(dialog, author), message(dialog, author, reply_to=1))
            verdicts += await world.flush(edit(dialog, author, 1), reaction(dialog, author, 1), wait=True)
            for change in (bodies.MemberLeft, bodies.Deleted, bodies.MembersAdded, bodies.MemberRemoved):
                verdicts.append((await world.act(change, dialog, author, author)).verdict)
        assert await connection.fetchval("SELECT pg_current_xact_id_if_assigned()") is None
        read = int(await connection.fetchval(_ROWS_READ) - before)
    return [msgspec.structs.replace(verdict, at_ms=0) for verdict in verdicts], read


async def test_a_stranger_waits_for_no_lock_reads_no_row_and_writes_nothing(world: World) -> None:
    ann, bo, eve = await world.people(3)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    await world.say(dialog, ann)
    async with world.held(dialog), asyncio.timeout(20):
        there = await refusals_of(world, eve, dialog)
    assert there == await refusals_of(world, eve, new_id()) == ([Verdict(NOT_FOUND)] * 8, 0)


async def test_a_refusal_of_a_former_member_has_no_numbers_of_the_dialog(world: World) -> None:
    ann, bo, cy = await world.people(3)
    dialog = await world.create(DialogType.GROUP, ann, bo, cy)
    await world.act(bodies.MemberRemoved, dialog, ann, bo)
    refused = [(await world.flush(message(dialog, bo)))[0], (await world.act(bodies.MemberLeft, dialog, bo)).verdict]
    assert [msgspec.structs.replace(verdict, at_ms=0) for verdict in refused] == [Verdict(NOT_FOUND)] * 2


async def test_stamps_rise_within_a_dialog_whichever_transaction_began_first(world: World) -> None:
    ann, bo, cy = await world.people(3)
    first, second = await world.create(DialogType.DIRECT, ann, bo), await world.create(DialogType.DIRECT, ann, cy)
    for late in (1, 2, bodies.Deleted):
        async with world.held(first) as other:  # the lower id
            said = await world.say(second, cy)
            with writing_by(world, other):
                if isinstance(late, int):
                    rows = [message(second, ann) for _ in range(late)]
                    assert {verdict.code for verdict in await world.flush(*rows)} == {VerdictCode.OK}
                else:
                    assert (await world.act(late, second, cy, target=said.seq)).verdict.code is VerdictCode.OK
    stored = await world.pool.fetch("SELECT xid::text::bigint FROM journal WHERE dialog_id = $1 ORDER BY seq", second)
    stamps = [row[0] for row in stored]
    assert stamps == sorted(stamps)
    head = await world.pool.fetchval("SELECT xid::text::bigint FROM heads WHERE dialog_id = $1", second)
    assert head == stamps[-1]


async def test_a_call_that_was_given_up_while_it_waited_for_a_head_writes_nothing(world: World) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    async with world.held(dialog):
        late = asyncio.ensure_future(world.flush(message(dialog, ann), wait=True))
        await world.until_a_flush_waits()
        await world.journal.overtake(1_000, incarnation=world.incarnation)
    with pytest.raises(NothingWrittenError, match="overtaken"):
        await late


async def test_a_flush_that_leaves_a_busy_dialog_out_keeps_no_share_from_another_flush(world: World) -> None:
    """After a reconnect two nodes have the same row. What one refuses as stale, the other must not store later."""
    ann, *others = [await one_device_of(world) for _ in range(3)]
    dialog = await world.create(DialogType.GROUP, ann, *others, mode=Mode.SEALED)
    staged = StagedSlices(
        principal=ann.principal,
        device=ann.device,
        share=new_id(),
        dialog=dialog,
        session=bytes(32),
        keys_seq=0,
        slices=[(each.device, b"keys") for each in others],
    )
    assert (await PostgresShares(world.pool).stage(staged, NOW)).complete
    said = message(dialog, ann, session=staged.session, share=staged.share)
    async with world.pool.acquire() as one_node, one_node.transaction():
        async with world.held(dialog):
            assert (await world.over(one_node).flush(said))[0].code is VerdictCode.BUSY
        async with asyncio.timeout(10):
            assert (await world.flush(said))[0].code is VerdictCode.OK


async def test_the_heir_is_found_without_reading_the_members(world: World) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.CHANNEL, ann, bo)
    await world.pool.execute(
        "INSERT INTO members (dialog_id, principal_id, role, member, visible, from_seq, joined_at_ms)"
        " SELECT $1, uuidv7(), 0, true, '{[1,)}', 1, 9007199254740000 FROM generate_series(1, 3000)",
        dialog,
    )
    await world.pool.execute("UPDATE heads SET member_count = 3002 WHERE dialog_id = $1", dialog)

    async with world.pool.acquire() as connection, connection.transaction():
        with writing_by(world, connection):
            left = await world.act(bodies.MemberLeft, dialog, ann)
        read = await connection.fetchval(_ROWS_READ)
    assert msgspec.msgpack.decode(left.events[1].body, type=bodies.AnyBody) == bodies.Promoted(bo.principal)
    assert read < 100


async def test_who_joins_an_empty_channel_becomes_its_admin(world: World) -> None:
    ann, bo, cy = await world.people(3)
    dialog = await world.create(DialogType.CHANNEL, ann, public=True)
    await world.act(bodies.MemberLeft, dialog, ann)
    n = bo.n()
    joined = await world.act(bodies.MembersAdded, dialog, bo, bo, n=n)
    events = [msgspec.msgpack.decode(row.body, type=bodies.AnyBody) for row in joined.events]
    assert events == [bodies.MembersAdded([bo.principal]), bodies.Promoted(bo.principal)]
    again = await world.act(bodies.MembersAdded, dialog, bo, bo, n=n)
    assert (again.verdict.code, again.events) == (VerdictCode.DUPLICATE, joined.events)
    (row,) = await world.timelines.read_dialogs(bo.principal, [dialog])
    assert row.state.role is Role.ADMIN
    assert len((await world.act(bodies.MembersAdded, dialog, cy, cy)).events) == 1
    assert (await world.act(bodies.MemberLeft, dialog, bo)).events[1:]  # bo was the last admin: cy follows


async def test_who_comes_back_often_keeps_the_newest_intervals(world: World) -> None:
    ann, bo, cy = await world.people(3)
    dialog = await world.create(DialogType.GROUP, ann, bo, cy)
    back = 1
    for _ in range(VISIBLE_INTERVALS_MAX + 5):
        await world.act(bodies.MemberRemoved, dialog, ann, bo)
        await world.say(dialog, ann)
        back = (await world.act(bodies.MembersAdded, dialog, ann, bo)).verdict.seq
    (row,) = await world.timelines.read_dialogs(bo.principal, [dialog])
    assert len(row.state.visible) == VISIBLE_INTERVALS_MAX
    assert row.state.visible[-2:] == [(back - 3, back - 2), (back, 0)]


def test_the_bound_of_intervals_is_the_protocols() -> None:
    assert functions.CHAT.render("${VISIBLE_INTERVALS_MAX}") == str(VISIBLE_INTERVALS_MAX)
