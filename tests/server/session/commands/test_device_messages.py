"""Messages from device to device over a socket."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from protocol.codec import JSON, MSGPACK, Codec
from protocol.device_commands import ConfirmToDevice, DeviceMessage, SendToDevice
from protocol.dialog_types import DialogType
from protocol.errors import ErrorCode
from protocol.events import FromDevice
from protocol.ids import new_id
from protocol.limits import DEVICE_MESSAGES_BY_ONE_MAX
from protocol.replies import Done
from server.config.settings import RateSettings
from storage.postgres.device_messages import PostgresDeviceMessages
from tests.support.harness import configured, running
from tests.support.sealing import one_device_of

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("codec", [MSGPACK, JSON], ids=["msgpack", "json"])
async def test_a_message_comes_at_once_and_again_until_it_is_confirmed(database_url: str, codec: Codec) -> None:
    async with running(database_url) as node:
        ann, bo = await one_device_of(node.world), await one_device_of(node.world)
        dialog = await node.world.create(DialogType.DIRECT, ann, bo)
        async with node.live(ann, codec) as a:
            async with node.live(bo, codec) as b:
                for number, body in ((1, b"one"), (2, b"two")):
                    sent = SendToDevice(number, new_id(), dialog, [DeviceMessage(bo.device, body)])
                    assert isinstance(await a.ask(sent), Done)
                    expected = FromDevice(number, dialog, ann.principal, ann.device, body)
                    assert await b.until(FromDevice) == expected
                assert isinstance(await b.ask(ConfirmToDevice(3, 1)), Done)
            async with node.live(bo, codec) as b:
                found = [message for message in b.caught_up if isinstance(message, FromDevice)]
                assert (found or [await b.until(FromDevice)]) == [expected]
                assert isinstance(await b.ask(ConfirmToDevice(4, 2)), Done)
                assert isinstance(await a.ask(replace(sent, id=9)), Done)  # once, also after it was confirmed
                assert await PostgresDeviceMessages(node.world.pool).read(bo.device, limit=9) == []


async def test_a_refused_message_says_why(database_url: str) -> None:
    rates = RateSettings(device_messages_per_person_per_h=60)
    async with running(database_url, configured(limits=rates)) as node:
        ann, bo, cy, di = [await one_device_of(node.world) for _ in range(4)]
        dialog = await node.world.create(DialogType.DIRECT, ann, bo)
        blocked = await node.world.create(DialogType.DIRECT, ann, cy)
        await node.world.pool.execute("INSERT INTO blocks VALUES ($1, $2)", ann.principal, cy.principal)
        to_bo, to_cy, to_di = (DeviceMessage(each.device, b"hello") for each in (bo, cy, di))
        async with node.live(ann) as a:
            for number, (place, messages, code) in enumerate(
                [
                    (new_id(), [to_bo], ErrorCode.DIALOG_NOT_FOUND),
                    (dialog, [to_bo, to_di], ErrorCode.INVALID_ARGUMENT),
                    (dialog, [to_bo, to_bo], ErrorCode.INVALID_ARGUMENT),
                    (blocked, [to_cy], ErrorCode.BLOCKED),
                    *((dialog, [to_bo], None) for _ in range(DEVICE_MESSAGES_BY_ONE_MAX)),
                    (dialog, [to_bo], ErrorCode.MESSAGES_BOUND),
                ],
                start=3,
            ):
                reply = await a.ask(SendToDevice(number, new_id(), place, messages))
                assert (None if isinstance(reply, Done) else reply.code) == code
            while isinstance(reply, Done) or reply.code == ErrorCode.MESSAGES_BOUND:
                number += 1
                reply = await a.ask(SendToDevice(number, new_id(), dialog, [to_bo]))
            assert (reply.code, reply.retry_after_s > 0) == (ErrorCode.RATE_LIMITED, True)
