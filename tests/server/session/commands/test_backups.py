"""The backup over a socket."""

from __future__ import annotations

import pytest

from protocol.codec import JSON, MSGPACK, Codec
from protocol.device_commands import BackupValue, PutBackup, ReadBackup
from protocol.errors import ErrorCode
from protocol.limits import BACKUP_VALUE_BYTES_MAX, BACKUP_VALUES_PER_COMMAND_MAX, BACKUP_VALUES_PER_PAGE_MAX
from protocol.replies import BackupPage, Done
from server.config.settings import RateSettings
from tests.support.harness import configured, running
from tests.support.sealing import one_device_of
from tests.support.world import Person

pytestmark = pytest.mark.anyio

_IDENTITY = "INSERT INTO identities VALUES ($1, 1, 2, '', '')"


@pytest.mark.parametrize("codec", [MSGPACK, JSON], ids=["msgpack", "json"])
async def test_the_largest_backup_is_stored_and_read_by_a_fresh_device_in_pages(
    database_url: str, codec: Codec
) -> None:
    async with running(database_url) as node:
        ann = await one_device_of(node.world)
        await node.world.pool.execute(_IDENTITY, ann.principal)
        stored = [
            BackupValue(bytes([number]) * 32, 1, bytes(BACKUP_VALUE_BYTES_MAX))
            for number in range(BACKUP_VALUES_PER_PAGE_MAX + 1)
        ]
        async with node.live(ann, codec) as phone:
            for first in range(0, len(stored), BACKUP_VALUES_PER_COMMAND_MAX):
                put = PutBackup(3, 1, stored[first : first + BACKUP_VALUES_PER_COMMAND_MAX])
                assert isinstance(await phone.ask(put), Done)
        fresh = Person(ann.principal)
        await node.world.another_sign_in(fresh)
        async with node.live(fresh, codec) as laptop:
            page = await laptop.ask(ReadBackup(3, 1))
            assert page == BackupPage(3, stored[:-1], True)
            assert await laptop.ask(ReadBackup(4, 1, page.values[-1].key)) == BackupPage(4, stored[-1:])
            assert await laptop.ask(ReadBackup(5, 2)) == BackupPage(5, [])


async def test_a_refused_value_says_why(database_url: str) -> None:
    async with running(database_url, configured(limits=RateSettings(backup_values_per_person=1))) as node:
        ann = await one_device_of(node.world)
        await node.world.pool.execute(_IDENTITY, ann.principal)
        one, two = (BackupValue(bytes([number]) * 32, 1, b"value") for number in (1, 2))
        async with node.live(ann) as phone:
            for number, (put, code) in enumerate(
                [
                    (PutBackup(3, 1, [one, one]), ErrorCode.INVALID_ARGUMENT),
                    (PutBackup(4, 2, [one]), ErrorCode.LOG_PASSED),
                    (PutBackup(5, 1, [one]), None),
                    (PutBackup(6, 1, [two]), ErrorCode.BACKUP_BOUND),
                ],
                start=3,
            ):
                reply = await phone.ask(put)
                assert (reply.id, None if isinstance(reply, Done) else reply.code) == (number, code)
