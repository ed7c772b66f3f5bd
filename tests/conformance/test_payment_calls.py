"""Which commands about payments are passed on to commerce: judged once, then whatever became of their author."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from protocol import bodies
from protocol.dialog_types import DialogType
from protocol.ids import new_id
from storage.postgres.payment_calls import PaymentCall, PaymentCalls
from storage.rows import VerdictCode
from tests.support.identity_people import DAY, NOW, IdentityStores, purge
from tests.support.world import Person, World

pytestmark = pytest.mark.anyio

OK, CONFLICT = VerdictCode.OK, VerdictCode.CONFLICT


@pytest.fixture
async def ann(world: World) -> Person:
    return await world.person()


@pytest.fixture
async def bo(world: World) -> Person:
    return await world.person()


@pytest.fixture
async def call(world: World, ann: Person, bo: Person) -> PaymentCall:
    """Ann pays Bo in a group of three."""
    dialog = await world.create(DialogType.GROUP, await world.person(), ann, bo)
    return PaymentCall(ann.principal, ann.device, dialog, 1, b"send to bo", True, [bo.principal])


async def test_a_call_is_noted_once_and_is_answered_alike_from_then_on(
    world: World, ann: Person, call: PaymentCall
) -> None:
    calls = PaymentCalls(world.pool)
    assert [await calls.judge(NOW, call) for _ in range(2)] == [OK, OK]
    await world.act(bodies.MemberLeft, call.dialog, ann)
    assert await calls.judge(NOW, call) is OK
    assert await calls.judge(NOW, replace(call, n=2)) is VerdictCode.NOT_FOUND
    assert await calls.judge(NOW, replace(call, what=b"another")) is CONFLICT
    assert await world.pool.fetchval("SELECT count(*) FROM payment_calls WHERE n = 1") == 1


async def test_numbers_belong_to_a_device_in_a_dialog(world: World, bo: Person, call: PaymentCall) -> None:
    calls = PaymentCalls(world.pool)
    assert await calls.judge(NOW, call) is OK
    theirs = replace(call, author=bo.principal, device=bo.device, what=b"request", parties=[call.author])
    assert await calls.judge(NOW, theirs) is OK
    elsewhere = await world.create(DialogType.DIRECT, bo, Person(call.author, call.device))
    assert await calls.judge(NOW, replace(call, dialog=elsewhere, what=b"another")) is OK


async def test_what_is_refused_stays_refused(world: World, bo: Person, call: PaymentCall) -> None:
    calls = PaymentCalls(world.pool)
    await world.act(bodies.MemberLeft, call.dialog, bo)
    for refused, code in (
        (call, VerdictCode.NOT_MEMBER),
        (replace(call, parties=[new_id()]), VerdictCode.NOT_MEMBER),
        (replace(call, dialog=new_id()), VerdictCode.NOT_FOUND),
        (replace(call, author=new_id()), VerdictCode.SUSPENDED),
    ):
        assert await calls.judge(NOW, refused) is code
    await world.pool.execute("UPDATE members SET member = true WHERE principal_id = $1", bo.principal)
    assert await calls.judge(NOW, call) is VerdictCode.NOT_MEMBER
    assert await calls.judge(NOW, replace(call, n=call.n + 1)) is OK


async def test_of_two_uses_of_a_number_at_once_one_is_passed_on(world: World, call: PaymentCall) -> None:
    calls = PaymentCalls(world.pool)
    for n in range(20):
        uses = [replace(call, n=n, what=what) for what in (b"one", b"two")]
        codes = await asyncio.gather(*(calls.judge(NOW, use) for use in uses))
        assert sorted(codes) == [OK, CONFLICT]
        again = [await calls.judge(NOW, use) for use in uses]
        assert again == codes


async def test_a_call_is_forgotten_after_thirty_days(world: World, call: PaymentCall) -> None:
    calls, stores = PaymentCalls(world.pool), IdentityStores(world.pool)
    left: list[Any] = []
    await calls.judge(NOW, call)
    await calls.judge(NOW + DAY, replace(call, n=2))
    for days in (30, 31):
        await purge(stores, NOW + days * DAY)
        left.append([row["n"] for row in await world.pool.fetch("SELECT n FROM payment_calls")])
    assert left == [[2], []]
