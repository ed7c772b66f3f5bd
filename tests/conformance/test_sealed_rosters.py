"""What the store adds to the rosters of sealed dialogs: the device logs of who becomes a member."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from protocol.bodies import DialogCreated, LogHead, MembersAdded, decode_body
from protocol.dialog_types import DialogType, Mode
from storage.device_keys import DeviceKeyStore
from storage.rows import ChangeResult, VerdictCode
from tests.support.device_logs import LoggedPerson
from tests.support.world import World

pytestmark = pytest.mark.anyio

OK, DUPLICATE, CONFLICT = VerdictCode.OK, VerdictCode.DUPLICATE, VerdictCode.CONFLICT
NONE = LogHead()
_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%append_device_log%'"


def logs_in(result: ChangeResult) -> list[LogHead]:
    """What the event of a change says of the logs of who became a member."""
    body = decode_body(result.events[0].body)
    assert isinstance(body, (DialogCreated, MembersAdded))
    return body.logs


@pytest.fixture
async def ann(world: World, device_keys: DeviceKeyStore) -> LoggedPerson:
    """Ann, whose log has two entries."""
    ann = LoggedPerson(device_keys, await world.person())
    await ann.start()
    await ann.add(ann.person)
    return ann


@pytest.mark.parametrize("kind", [DialogType.SELF, DialogType.DIRECT, DialogType.GROUP])
async def test_a_sealed_dialog_begins_with_the_logs_of_its_members(
    world: World, ann: LoggedPerson, kind: DialogType
) -> None:
    others = await world.people({DialogType.SELF: 0, DialogType.DIRECT: 1, DialogType.GROUP: 20}[kind])
    made, _ = await world.try_create(kind, ann.person, *others, mode=Mode.SEALED)
    assert logs_in(made) == [ann.head, *(NONE for _ in others)]


async def test_nothing_is_said_of_logs_where_nothing_is_sealed_or_nobody_has_one(
    world: World, ann: LoggedPerson
) -> None:
    people = await world.people(3)
    opened, _ = await world.try_create(DialogType.GROUP, ann.person, *people)
    sealed, _ = await world.try_create(DialogType.GROUP, *people, mode=Mode.SEALED)
    assert logs_in(opened) == logs_in(sealed) == []


async def test_an_addition_brings_the_logs_of_who_is_added(
    world: World, ann: LoggedPerson, device_keys: DeviceKeyStore
) -> None:
    people = await world.people(3)
    dialog = await world.create(DialogType.GROUP, *people, mode=Mode.SEALED)
    bo, cy = await world.person(), LoggedPerson(device_keys, await world.person())
    for _ in range(200):  # generations and lengths of more than one byte
        await cy.start()
    added = await world.act(MembersAdded, dialog, people[0], ann.person, bo, cy.person, signed_at=0)
    assert logs_in(added) == [ann.head, NONE, cy.head]
    assert cy.head.generation == 200


async def test_a_repetition_is_answered_though_a_log_has_grown_since(world: World, ann: LoggedPerson) -> None:
    bo, cy, di = await world.people(3)
    await world.try_create(DialogType.GROUP, bo, cy, ann.person, mode=Mode.SEALED, n=7)
    other = await world.create(DialogType.GROUP, bo, cy, di, mode=Mode.SEALED)
    added = await world.act(MembersAdded, other, bo, ann.person, n=9, signed_at=0)
    was = ann.head
    await ann.start()
    for given in [(ann.person, DUPLICATE), (di, CONFLICT)]:
        again, _ = await world.try_create(DialogType.GROUP, bo, cy, given[0], mode=Mode.SEALED, n=7)
        assert again.verdict.code is given[1]
        assert (await world.act(MembersAdded, other, bo, given[0], n=9, signed_at=0)).verdict.code is given[1]
    again = await world.act(MembersAdded, other, bo, ann.person, n=9, signed_at=0)
    assert (logs_in(again), again.verdict.seq) == ([was], added.verdict.seq)


async def test_what_another_version_encoded_differently_is_a_repetition_too(world: World, ann: LoggedPerson) -> None:
    bo, cy, di = await world.people(3)
    dialog = await world.create(DialogType.GROUP, bo, cy, di, mode=Mode.SEALED)
    added = await world.act(MembersAdded, dialog, bo, ann.person, n=9, signed_at=0)
    stored = msgspec.msgpack.decode(added.events[0].body)
    await world.pool.execute(
        "UPDATE journal SET body = $3 WHERE dialog_id = $1 AND seq = $2",
        dialog,
        added.verdict.seq,
        msgspec.msgpack.encode([*stored, "later"]),
    )
    assert (await world.act(MembersAdded, dialog, bo, ann.person, n=9, signed_at=0)).verdict.code is DUPLICATE
    assert (await world.act(MembersAdded, dialog, bo, di, n=9, signed_at=0)).verdict.code is CONFLICT


async def test_a_log_that_grows_waits_for_who_becomes_a_member_with_what_it_was(
    world: World, device_keys: DeviceKeyStore
) -> None:
    """Else nothing would say there that it has grown. Also the first log of a person."""
    bo, cy, di, em = await world.people(4)
    dialog = await world.create(DialogType.GROUP, bo, cy, di, mode=Mode.SEALED)
    joining = LoggedPerson(device_keys, em)
    async with world.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        added = await world.over(connection).act(MembersAdded, dialog, bo, em, signed_at=0)
        growing = asyncio.create_task(joining.start())
        while not await world.pool.fetchval(_WAITING):
            assert not growing.done()
        await transaction.commit()
    assert (await growing, logs_in(added)) == (joining.head, [])
