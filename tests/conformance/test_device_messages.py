"""Messages from device to device: once, in order, from those who may, and never more than may wait."""

from __future__ import annotations

import asyncio

import pytest

from protocol.bodies import MemberLeft
from protocol.dialog_types import DialogType
from protocol.ids import new_id
from protocol.kinds import DAY_MS
from protocol.limits import (
    DEVICE_MESSAGES_BY_ONE_MAX,
    DEVICE_MESSAGES_KEPT_DAYS,
    DEVICE_MESSAGES_REMEMBERED,
    DEVICE_MESSAGES_WAITING_MAX,
)
from storage.device_messages import DeviceMessageRow, SendOutcome, SentMessages
from storage.postgres.device_messages import PostgresDeviceMessages
from tests.support.identity_people import NOW, IdentityStores, purge
from tests.support.sealing import another_device_of, keys_end, one_device_of
from tests.support.world import Person, World

pytestmark = pytest.mark.anyio

_FILL = """
INSERT INTO device_messages (to_device, number, dialog_id, author_id, device_id, own, at_ms, body)
SELECT $1, i, $2, $3, $3, $4, $5, '' FROM generate_series($6::int, $7) i
"""


class Pair:
    """A group of Ann and Bo, each with a device that has keys."""

    def __init__(self, world: World, ann: Person, bo: Person, dialog: bytes) -> None:
        self.world, self.ann, self.bo, self.dialog = world, ann, bo, dialog
        self.store = PostgresDeviceMessages(world.pool)

    async def send(
        self, *to: Person, by: Person | None = None, message: bytes | None = None, body: bytes = b"hello"
    ) -> SendOutcome:
        """Ann writes to these devices, under a new id if none is given."""
        by = by or self.ann
        sent = SentMessages(
            principal=by.principal,
            device=by.device,
            message=message or new_id(),
            dialog=self.dialog,
            messages=[(each.device, body) for each in to],
        )
        return await self.store.send(sent, NOW)

    async def read(self, person: Person) -> list[DeviceMessageRow]:
        """What waits for a device."""
        return await self.store.read(person.device, limit=1_000)

    async def fill(self, author: bytes, count: int, *, own: bool = False) -> None:
        """As many messages of this author wait for Bo's device."""
        last = await self.world.pool.fetchval(
            "INSERT INTO mailboxes AS x (device_id, last_number) VALUES ($1, $2) ON CONFLICT (device_id) "
            "DO UPDATE SET last_number = x.last_number + $2 RETURNING last_number",
            self.bo.device,
            count,
        )
        await self.world.pool.execute(_FILL, self.bo.device, self.dialog, author, own, NOW, last - count + 1, last)


@pytest.fixture
async def pair(world: World) -> Pair:
    ann, bo = await one_device_of(world), await one_device_of(world)
    return Pair(world, ann, bo, await world.create(DialogType.GROUP, ann, bo, *await world.people(1)))


async def test_messages_are_numbered_in_order_until_they_are_confirmed(pair: Pair) -> None:
    assert await pair.send(pair.bo, body=b"one") is SendOutcome.OK
    assert await pair.send(pair.bo, body=b"two") is SendOutcome.OK
    place = (pair.dialog, pair.ann.principal, pair.ann.device)
    assert await pair.read(pair.bo) == [DeviceMessageRow(1, *place, b"one"), DeviceMessageRow(2, *place, b"two")]
    await pair.store.confirm(pair.bo.device, 1)
    assert [row.number for row in await pair.read(pair.bo)] == [2]
    await pair.store.confirm(pair.bo.device, 2)
    await pair.send(pair.bo)
    assert [row.number for row in await pair.read(pair.bo)] == [3]


async def test_a_repeated_message_is_stored_once_also_after_it_was_confirmed(pair: Pair) -> None:
    message = new_id()
    for _ in range(2):
        assert await pair.send(pair.bo, message=message) is SendOutcome.OK
    assert len(await pair.read(pair.bo)) == 1
    await pair.store.confirm(pair.bo.device, 1)
    for _ in range(DEVICE_MESSAGES_REMEMBERED - 1):
        await pair.send(pair.ann)
        await pair.store.confirm(pair.ann.device, 2**50)
    assert await pair.send(pair.bo, message=message) is SendOutcome.OK
    assert await pair.read(pair.bo) == []


async def test_the_same_id_of_another_device_is_another_message(pair: Pair) -> None:
    message = new_id()
    await pair.send(pair.bo, message=message)
    await pair.send(pair.bo, by=pair.bo, message=message)
    assert len(await pair.read(pair.bo)) == 2


async def test_only_devices_of_members_that_have_keys_are_written_to(pair: Pair) -> None:
    stranger, keyless = await one_device_of(pair.world), Person(pair.bo.principal)
    for to in (stranger, keyless):
        assert await pair.send(pair.bo, to) is SendOutcome.STRANGER
    assert await pair.send(pair.bo, by=stranger) is SendOutcome.NOT_FOUND
    assert await pair.read(pair.bo) == []
    await pair.world.act(MemberLeft, pair.dialog, pair.bo)
    assert await pair.send(pair.bo) is SendOutcome.STRANGER
    assert await pair.send(pair.ann, by=pair.bo) is SendOutcome.NOT_FOUND


async def test_own_devices_are_written_to_in_the_self_dialog(pair: Pair) -> None:
    other = await another_device_of(pair.world, pair.ann)
    pair.dialog = await pair.world.create(DialogType.SELF, pair.ann)
    assert await pair.send(other) is SendOutcome.OK
    assert await pair.send(pair.bo) is SendOutcome.STRANGER


@pytest.mark.parametrize("blocker", ["ann", "bo"])
async def test_a_block_ends_messages_in_both_directions(pair: Pair, blocker: str) -> None:
    by, blocked = (pair.ann, pair.bo) if blocker == "ann" else (pair.bo, pair.ann)
    await pair.world.pool.execute("INSERT INTO blocks VALUES ($1, $2)", blocked.principal, by.principal)
    assert await pair.send(pair.bo) is SendOutcome.BLOCKED
    assert await pair.read(pair.bo) == []


async def test_one_stranger_fills_the_mailbox_for_nobody_else(pair: Pair) -> None:
    await pair.fill(pair.ann.principal, DEVICE_MESSAGES_BY_ONE_MAX - 1)
    assert await pair.send(pair.bo) is SendOutcome.OK
    assert await pair.send(pair.bo, pair.ann) is SendOutcome.BOUND
    assert await pair.read(pair.ann) == []
    cy = await one_device_of(pair.world)
    pair.dialog = await pair.world.create(DialogType.DIRECT, cy, pair.bo)
    assert await pair.send(pair.bo, by=cy) is SendOutcome.OK


async def test_many_strangers_do_not_keep_out_the_own_devices(pair: Pair) -> None:
    await pair.fill(new_id(), DEVICE_MESSAGES_WAITING_MAX)
    assert await pair.send(pair.bo) is SendOutcome.BOUND
    other = await another_device_of(pair.world, pair.bo)
    assert await pair.send(pair.bo, by=other) is SendOutcome.OK


async def test_what_own_devices_wrote_does_not_keep_out_others(pair: Pair) -> None:
    await pair.fill(pair.bo.principal, DEVICE_MESSAGES_WAITING_MAX, own=True)
    assert await pair.send(pair.bo) is SendOutcome.OK


async def test_messages_go_with_the_keys_of_their_device_and_numbers_go_on(pair: Pair) -> None:
    await pair.send(pair.bo)
    await keys_end(pair.world, pair.bo)
    assert await pair.read(pair.bo) == []
    assert await pair.send(pair.bo) is SendOutcome.STRANGER
    await pair.world.pool.execute("UPDATE device_keys SET keys = 'keys' WHERE device_id = $1", pair.bo.device)
    await pair.send(pair.bo)
    assert [row.number for row in await pair.read(pair.bo)] == [2]


async def test_a_message_that_nobody_confirms_is_kept_for_its_days(pair: Pair) -> None:
    await pair.send(pair.bo)
    stores = IdentityStores(pair.world.pool)
    await purge(stores, NOW + DEVICE_MESSAGES_KEPT_DAYS * DAY_MS - 1)
    assert len(await pair.read(pair.bo)) == 1
    await purge(stores, NOW + DEVICE_MESSAGES_KEPT_DAYS * DAY_MS)
    assert await pair.read(pair.bo) == []


async def test_writers_to_the_same_devices_never_wait_in_a_circle_and_leave_no_hole(pair: Pair) -> None:
    devices = [pair.bo, pair.ann, *[await another_device_of(pair.world, pair.bo) for _ in range(2)]]
    sends = [pair.send(*(devices if n % 2 else devices[::-1]), by=devices[n % 4]) for n in range(24)]
    assert set(await asyncio.gather(*sends)) == {SendOutcome.OK}
    for each in devices:
        assert [row.number for row in await pair.read(each)] == list(range(1, 25))


async def test_a_reading_names_whom_something_new_waits_for(pair: Pair) -> None:
    since = (await pair.store.read_new(None)).horizon
    await pair.send(pair.bo, pair.ann)
    found = await pair.store.read_new(since)
    assert sorted(found.devices) == sorted([pair.bo.device, pair.ann.device])
    assert (await pair.store.read_new(found.horizon)).devices == []


async def test_what_commits_late_is_in_the_next_reading(pair: Pair) -> None:
    async with pair.world.pool.acquire() as connection:
        late = connection.transaction()
        await late.start()
        pair.store = PostgresDeviceMessages(pair.world.over(connection).pool)
        await pair.send(pair.bo)
        store = PostgresDeviceMessages(pair.world.pool)
        since = (await store.read_new(None)).horizon
        await late.commit()
    assert (await store.read_new(since)).devices == [pair.bo.device]
