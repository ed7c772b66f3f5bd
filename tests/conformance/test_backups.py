"""Backups: nothing better is replaced by something worse, and nobody but a device of the log adds anything."""

from __future__ import annotations

import asyncio

import pytest

from protocol.ids import new_id
from protocol.kinds import DAY_MS
from protocol.limits import BACKUP_KEPT_DAYS
from storage.backups import BackupAddition, BackupOutcome, BackupRow
from storage.postgres.backups import PostgresBackups
from tests.support.identity_people import NOW, IdentityStores, purge
from tests.support.sealing import another_device_of, keys_end, one_device_of
from tests.support.world import Person, World

pytestmark = pytest.mark.anyio

ONE, TWO = bytes([1]) * 32, bytes([2]) * 32
OK, PASSED, BOUND = BackupOutcome
_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%put_backup%'"


class Owner:
    """A person with an identity, and a device in its log."""

    def __init__(self, world: World, phone: Person) -> None:
        self.world, self.phone, self.store = world, phone, PostgresBackups(world.pool)

    async def start(self, generation: int) -> None:
        """The identity is of this generation now."""
        await self.world.pool.execute(
            "INSERT INTO identities VALUES ($1, $2, 2, '', '') ON CONFLICT (principal_id) DO UPDATE"
            " SET generation = excluded.generation",
            self.phone.principal,
            generation,
        )

    async def put(
        self, *rows: BackupRow, by: Person | None = None, generation: int = 1, at_ms: int = NOW, values_max: int = 9
    ) -> BackupOutcome:
        by = by or self.phone
        addition = BackupAddition(principal=by.principal, device=by.device, generation=generation, rows=rows)
        return await self.store.put(addition, at_ms, values_max=values_max)

    async def read(self, generation: int = 1, *, after: bytes = b"", limit: int = 99) -> list[BackupRow]:
        return await self.store.read(self.phone.principal, generation, after=after, limit=limit)


@pytest.fixture
async def owner(world: World) -> Owner:
    made = Owner(world, await one_device_of(world))
    await made.start(1)
    return made


async def test_values_are_read_in_pages_in_the_order_of_their_keys(owner: Owner) -> None:
    rows = [BackupRow(bytes([number]) * 32, 1, b"value") for number in (3, 0, 2, 1)]
    assert await owner.put(*rows) is OK
    assert [row.key[0] for row in await owner.read(limit=3)] == [0, 1, 2]
    assert [row.key[0] for row in await owner.read(after=TWO, limit=3)] == [3]
    assert await owner.store.read(new_id(), 1, after=b"", limit=9) == []


async def test_an_older_version_does_not_replace_a_newer_one(owner: Owner) -> None:
    await owner.put(BackupRow(ONE, 5, b"five"))
    for version in (4, 5):
        assert await owner.put(BackupRow(ONE, version, b"other"), BackupRow(TWO, version, b"two")) is OK
    assert [(row.version, row.value) for row in await owner.read()] == [(5, b"five"), (5, b"two")]
    await owner.put(BackupRow(ONE, 6, b"six"))
    assert (await owner.read())[0] == BackupRow(ONE, 6, b"six")


async def test_only_a_device_in_the_log_with_its_keys_adds_to_the_backup(owner: Owner) -> None:
    fresh, stranger = Person(owner.phone.principal), await one_device_of(owner.world)
    signed_out = await another_device_of(owner.world, owner.phone)
    await keys_end(owner.world, signed_out)
    for by in (fresh, Person(owner.phone.principal, device=stranger.device), signed_out):
        assert await owner.put(BackupRow(ONE, 1, b"value"), by=by) is PASSED
    assert await owner.put(BackupRow(ONE, 1, b"value"), generation=2) is PASSED
    assert await owner.read() == await owner.read(2) == []


async def test_an_identity_that_another_one_has_followed_is_read_but_not_added_to(owner: Owner) -> None:
    await owner.put(BackupRow(ONE, 1, b"first"))
    await owner.start(2)
    assert await owner.put(BackupRow(ONE, 2, b"replaced")) is PASSED
    assert await owner.put(BackupRow(ONE, 1, b"second"), generation=2) is OK
    assert [row.value for row in await owner.read() + await owner.read(2)] == [b"first", b"second"]


async def test_values_of_a_former_identity_go_when_they_are_old(owner: Owner) -> None:
    await owner.put(BackupRow(ONE, 1, b"first"))
    await owner.start(2)
    later = NOW + BACKUP_KEPT_DAYS * DAY_MS
    await owner.put(BackupRow(ONE, 1, b"second"), generation=2, at_ms=later - 1)
    assert len(await owner.read()) == 1
    assert await owner.put(BackupRow(TWO, 1, b"third"), generation=2, at_ms=later, values_max=2) is OK
    assert await owner.read() == []


async def test_a_person_has_a_bounded_number_of_values(owner: Owner) -> None:
    await owner.put(BackupRow(ONE, 1, b"one"), BackupRow(TWO, 1, b"two"), values_max=2)
    third = BackupRow(bytes(32), 1, b"three")
    assert await owner.put(third, BackupRow(ONE, 2, b"better"), values_max=2) is BOUND
    assert await owner.put(BackupRow(ONE, 2, b"better"), values_max=2) is OK
    await owner.start(2)
    assert await owner.put(third, generation=2, values_max=2) is BOUND
    assert [row.version for row in await owner.read()] == [2, 1]


async def test_two_devices_that_add_at_once_do_not_pass_the_bound(owner: Owner) -> None:
    await owner.put(BackupRow(bytes(32), 1, b"identity"))
    async with owner.world.pool.acquire() as holder, holder.transaction():
        await holder.execute("SELECT FROM backup_counts FOR NO KEY UPDATE")
        puts = [asyncio.ensure_future(owner.put(BackupRow(key, 1, b"value"), values_max=2)) for key in (ONE, TWO)]
        while await owner.world.pool.fetchval(_WAITING) < 2:
            pass
    assert sorted(await asyncio.gather(*puts)) == [OK, BOUND]
    assert len(await owner.read()) == 2


async def test_a_backup_goes_with_its_person(owner: Owner) -> None:
    await owner.put(BackupRow(ONE, 1, b"one"))
    stores = IdentityStores(owner.world.pool)
    await owner.world.chooses(owner.phone, None)
    assert await stores.people.delete(NOW, owner.phone.principal)
    await purge(stores, NOW + 90 * DAY_MS)
    assert await owner.read() == []
