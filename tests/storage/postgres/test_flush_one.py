"""`flush_one` is `flush`: the same verdict and the same rows, whatever the situation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from protocol import bodies
from protocol.dialog_types import DialogType, Mode
from protocol.ids import new_id, self_dialog_id
from storage.postgres import functions
from storage.postgres.journal import PostgresJournal
from storage.rows import Entry, Verdict, VerdictCode
from tests.support.world import Person, World, message

pytestmark = pytest.mark.anyio

OK = VerdictCode.OK
SHARED, OTHER = b"shared session", b"another session"

_ROWS = """
SELECT j.seq, j.author_id, j.device_id, j.n, j.tag, j.target, j.messages, j.expires_at_ms, j.incarnation, j.flush_no,
       j.xid = pg_current_xact_id_if_assigned(), j.body, h.xid = pg_current_xact_id_if_assigned(),
       (to_jsonb(h) - 'xid')::text, to_jsonb(a)::text
FROM journal j JOIN heads h USING (dialog_id) LEFT JOIN authors a USING (dialog_id, device_id)
WHERE dialog_id = $1 ORDER BY j.seq
"""
_CALLS = "SELECT coalesce(sum(calls), 0)::int FROM pg_stat_xact_user_functions WHERE funcname = 'flush'"

Situation = Callable[[World, Person, Person], Awaitable[Entry]]


async def a_dialog(world: World, ann: Person, bo: Person, kind: DialogType = DialogType.DIRECT) -> bytes:
    """One in which Ann has written."""
    others = [bo] if kind is DialogType.DIRECT else [bo, await world.person()]
    dialog = await world.create(kind, ann, *others)
    assert (await world.say(dialog, ann)).code is OK
    return dialog


async def a_message(world: World, ann: Person, bo: Person) -> Entry:
    return message(await a_dialog(world, ann, bo), ann)


async def a_message_that_expires(world: World, ann: Person, bo: Person) -> Entry:
    return message(await a_dialog(world, ann, bo), ann, expires_at_ms=2**50)


async def what_does_not_count(world: World, ann: Person, bo: Person) -> Entry:
    return msgspec.structs.replace(await a_message(world, ann, bo), counts=False)


async def an_admins_message_in_a_channel(world: World, ann: Person, bo: Person) -> Entry:
    return message(await a_dialog(world, ann, bo, DialogType.CHANNEL), ann)


async def a_members_message_in_a_channel(world: World, ann: Person, bo: Person) -> Entry:
    dialog = await a_dialog(world, ann, bo, DialogType.CHANNEL)
    await world.act(bodies.Promoted, dialog, ann, bo)
    await world.say(dialog, bo)
    await world.act(bodies.Demoted, dialog, ann, bo)
    return message(dialog, bo)


async def a_devices_first_message(world: World, ann: Person, bo: Person) -> Entry:
    return message(await a_dialog(world, ann, bo), bo)


async def a_repetition(world: World, ann: Person, bo: Person) -> Entry:
    entry = await a_message(world, ann, bo)
    assert (await world.flush(entry))[0].code is OK
    return entry


async def another_body_under_a_used_number(world: World, ann: Person, bo: Person) -> Entry:
    return msgspec.structs.replace(await a_repetition(world, ann, bo), body=b"other")


async def a_passed_number(world: World, ann: Person, bo: Person) -> Entry:
    entry = await a_message(world, ann, bo)
    await world.say(entry.dialog, ann)
    return entry


async def a_strangers_message(world: World, ann: Person, bo: Person) -> Entry:
    return message(await a_dialog(world, ann, bo), await world.person())


async def a_services_message(world: World, ann: Person, bo: Person) -> Entry:
    return message(await a_dialog(world, ann, bo), await world.person(kind=4))


async def a_message_to_no_dialog(_world: World, ann: Person, _bo: Person) -> Entry:
    return message(new_id(), ann)


async def a_removed_members_message(world: World, ann: Person, bo: Person) -> Entry:
    dialog = await a_dialog(world, ann, bo, DialogType.GROUP)
    await world.say(dialog, bo)
    await world.act(bodies.MemberRemoved, dialog, ann, bo)
    return message(dialog, bo)


async def a_message_to_a_deleted_dialog(world: World, ann: Person, bo: Person) -> Entry:
    dialog = await a_dialog(world, ann, bo, DialogType.GROUP)
    await world.pool.execute("UPDATE heads SET deleted = true WHERE dialog_id = $1", dialog)
    return message(dialog, ann)


async def a_suspended_persons_message(world: World, ann: Person, bo: Person) -> Entry:
    entry = await a_message(world, ann, bo)
    await world.pool.execute("UPDATE principals SET status = 2 WHERE principal_id = $1", ann.principal)
    return entry


async def a_deleted_persons_message(world: World, ann: Person, bo: Person) -> Entry:
    entry = await a_message(world, ann, bo)
    await world.pool.execute("UPDATE principals SET status = 3 WHERE principal_id = $1", ann.principal)
    return entry


async def a_message_of_another_tenant(world: World, ann: Person, bo: Person) -> Entry:
    entry = await a_message(world, ann, bo)
    await world.pool.execute("UPDATE heads SET tenant_id = 2 WHERE dialog_id = $1", entry.dialog)
    return entry


async def a_blocked_persons_message(world: World, ann: Person, bo: Person) -> Entry:
    await world.create(DialogType.SELF, bo)
    entry = await a_message(world, ann, bo)
    assert (await world.act(bodies.Blocked, self_dialog_id(bo.principal), bo, ann)).verdict.code is OK
    return entry


async def a_blocked_persons_message_in_a_group(world: World, ann: Person, bo: Person) -> Entry:
    group = await a_dialog(world, ann, bo, DialogType.GROUP)
    await a_blocked_persons_message(world, ann, bo)
    return message(group, ann)


async def sealed(world: World, ann: Person, bo: Person, session: bytes | None = SHARED, later: int = 0) -> Entry:
    """A message of that session, so much later than the `keys_seq` at which Ann's device has shared its one there."""
    dialog = await world.create(DialogType.DIRECT, ann, bo, mode=Mode.SEALED)
    keys_seq = await world.pool.fetchval(
        "UPDATE authors a SET session = $2, shared_keys_seq = h.keys_seq FROM heads h"
        " WHERE h.dialog_id = $1 AND a.dialog_id = $1 RETURNING h.keys_seq",
        dialog,
        SHARED,
    )
    return message(dialog, ann, session=session, keys_seq=keys_seq + later)


async def an_envelope(world: World, ann: Person, bo: Person) -> Entry:
    return await sealed(world, ann, bo)


async def an_envelope_of_another_roster(world: World, ann: Person, bo: Person) -> Entry:
    return await sealed(world, ann, bo, later=1)


async def an_envelope_of_a_session_shared_before(world: World, ann: Person, bo: Person) -> Entry:
    entry = await sealed(world, ann, bo)
    await world.pool.execute("UPDATE authors SET shared_keys_seq = shared_keys_seq - 1")
    return entry


async def an_envelope_of_another_session(world: World, ann: Person, bo: Person) -> Entry:
    return await sealed(world, ann, bo, session=OTHER)


async def what_is_in_the_clear(world: World, ann: Person, bo: Person) -> Entry:
    return await sealed(world, ann, bo, session=None)


async def what_may_be_in_the_clear(world: World, ann: Person, bo: Person) -> Entry:
    return msgspec.structs.replace(await sealed(world, ann, bo, session=None), keys_seq=None)


PLAIN: list[Situation] = [
    a_message,
    a_message_that_expires,
    what_does_not_count,
    an_admins_message_in_a_channel,
    a_blocked_persons_message_in_a_group,
    an_envelope,
]
OTHERS: dict[Situation, VerdictCode] = {
    a_members_message_in_a_channel: VerdictCode.ROLE_REQUIRED,
    a_devices_first_message: OK,
    a_repetition: VerdictCode.DUPLICATE,
    another_body_under_a_used_number: VerdictCode.CONFLICT,
    a_passed_number: VerdictCode.NUMBER_PASSED,
    a_strangers_message: VerdictCode.NOT_FOUND,
    a_services_message: OK,
    a_message_to_no_dialog: VerdictCode.NOT_FOUND,
    a_removed_members_message: VerdictCode.NOT_FOUND,
    a_message_to_a_deleted_dialog: VerdictCode.NOT_FOUND,
    a_suspended_persons_message: VerdictCode.SUSPENDED,
    a_deleted_persons_message: VerdictCode.SUSPENDED,
    a_message_of_another_tenant: VerdictCode.NOT_FOUND,
    a_blocked_persons_message: VerdictCode.BLOCKED,
    an_envelope_of_another_roster: VerdictCode.STALE,
    an_envelope_of_a_session_shared_before: VerdictCode.STALE,
    an_envelope_of_another_session: VerdictCode.STALE,
    what_is_in_the_clear: VerdictCode.NOT_SEALED,
    what_may_be_in_the_clear: OK,
}


def name_of(situation: Situation) -> str:
    return situation.__name__


async def flush_and_undo(world: World, entry: Entry, *, alone: bool) -> tuple[Verdict, list[Any], int]:
    """The verdict of `flush_one`, or of `flush`, the rows of the dialog after it, and how often `flush` was called."""
    async with world.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        try:
            await connection.execute("SET LOCAL track_functions = 'all'")
            journal = PostgresJournal(world.pool, connection)
            # A flush that may wait is never that of one row.
            (verdict,) = await journal.flush([entry], incarnation=world.incarnation, flush_no=99, wait=not alone)
            calls = await connection.fetchval(_CALLS)
            rows = [tuple(row) for row in await connection.fetch(_ROWS, entry.dialog)]
        finally:
            await transaction.rollback()
    return msgspec.structs.replace(verdict, at_ms=0), rows, calls


@pytest.mark.parametrize("situation", [*PLAIN, *OTHERS], ids=name_of)
async def test_one_row_is_judged_and_stored_as_in_a_batch(world: World, situation: Situation) -> None:
    entry = await situation(world, *await world.people(2))
    verdict, rows, _ = await flush_and_undo(world, entry, alone=True)
    assert verdict.code is OTHERS.get(situation, OK)
    assert (verdict, rows) == (await flush_and_undo(world, entry, alone=False))[:2]


@pytest.mark.parametrize("situation", PLAIN, ids=name_of)
async def test_what_is_plainly_fine_costs_no_call_of_flush(world: World, situation: Situation) -> None:
    entry = await situation(world, *await world.people(2))
    assert (await flush_and_undo(world, entry, alone=True))[2] == 0


async def test_who_ends_an_incarnation_waits_for_the_flush_of_one_row(world: World) -> None:
    entry = await a_message(world, *await world.people(2))
    async with world.pool.acquire() as connection, connection.transaction():
        journal = PostgresJournal(world.pool, connection)
        await journal.flush([entry], incarnation=world.incarnation, flush_no=99, wait=False)
        held = "SELECT NOT pg_try_advisory_xact_lock($1, $2)"  # as `fence_incarnation` takes it
        assert await world.pool.fetchval(held, functions.INCARNATION_LOCKS, world.incarnation)


async def test_one_row_in_a_dialog_that_is_locked_is_busy(world: World) -> None:
    ann, bo = await world.people(2)
    entry = await a_message(world, ann, bo)
    async with world.held(entry.dialog):
        assert (await world.flush(entry))[0].code is VerdictCode.BUSY
    assert (await world.flush(entry))[0].code is OK
