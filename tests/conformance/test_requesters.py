"""The first version of a payment is judged as the one who began it; later ones pass whatever became of them."""

from __future__ import annotations

import msgspec
import pytest

from protocol import bodies
from protocol.dialog_types import DialogType, Mode
from protocol.ids import self_dialog_id
from protocol.kinds import Kind
from storage.rows import PrincipalStatus, VerdictCode
from tests.support.world import Person, World, message

pytestmark = pytest.mark.anyio

SERVICE = 4


class Payments:
    """Ann, Bo and Cy, a dialog of theirs, and the service that announces payments."""

    def __init__(self, world: World, people: list[Person], relay: Person) -> None:
        self.world, self.relay = world, relay
        self.ann, self.bo, self.cy = people

    async def group(self, mode: Mode = Mode.OPEN) -> bytes:
        """A group of all three, whose admin is Ann."""
        return await self.world.create(DialogType.GROUP, self.ann, self.bo, self.cy, mode=mode)

    async def judge(self, dialog: bytes, requester: Person | None, *, wait: bool = False) -> VerdictCode:
        """The verdict on a state of a payment, alone in its flush."""
        entry = message(dialog, self.relay, kind=Kind.PAYMENT, requester=requester)
        in_the_clear = msgspec.structs.replace(entry, keys_seq=None)
        (verdict,) = await self.world.flush(in_the_clear, wait=wait)
        return verdict.code


@pytest.fixture
async def payments(world: World) -> Payments:
    return Payments(world, await world.people(3), await world.person(SERVICE))


@pytest.mark.parametrize("mode", Mode)
async def test_a_member_begins_a_payment_in_either_mode(payments: Payments, mode: Mode) -> None:
    dialog = await payments.group(mode)
    assert await payments.judge(dialog, payments.bo) is VerdictCode.OK
    assert await payments.judge(dialog, payments.bo, wait=True) is VerdictCode.OK


async def test_who_has_left_begins_none_and_later_versions_pass(payments: Payments) -> None:
    world = payments.world
    dialog = await payments.group()
    await world.act(bodies.MemberLeft, dialog, payments.bo)
    assert await payments.judge(dialog, payments.bo) is VerdictCode.NOT_FOUND
    assert await payments.judge(dialog, None) is VerdictCode.OK


async def test_a_stranger_and_somebody_of_another_platform_begin_none(payments: Payments) -> None:
    dialog = await payments.group()
    await payments.world.pool.execute("INSERT INTO tenants VALUES (2, 'shop')")
    for other in (await payments.world.person(), await payments.world.person(tenant=2)):
        assert await payments.judge(dialog, other) is VerdictCode.NOT_FOUND


async def test_who_is_blocked_begins_none_in_a_direct_dialog(payments: Payments) -> None:
    world, ann, bo = payments.world, payments.ann, payments.bo
    direct = await world.create(DialogType.DIRECT, ann, bo)
    group = await payments.group()
    await world.create(DialogType.SELF, bo)
    await world.act(bodies.Blocked, self_dialog_id(bo.principal), bo, ann)
    assert await payments.judge(direct, ann) is VerdictCode.BLOCKED
    assert await payments.judge(direct, bo) is VerdictCode.OK
    assert await payments.judge(group, ann) is VerdictCode.OK
    assert await payments.judge(direct, None) is VerdictCode.OK


async def test_the_suspended_begin_none(payments: Payments) -> None:
    dialog = await payments.group()
    suspend = "UPDATE principals SET status = $2 WHERE principal_id = $1"
    await payments.world.pool.execute(suspend, payments.bo.principal, PrincipalStatus.SUSPENDED)
    assert await payments.judge(dialog, payments.bo) is VerdictCode.SUSPENDED
    assert await payments.judge(dialog, None) is VerdictCode.OK


async def test_only_an_admin_begins_a_payment_where_only_admins_write(payments: Payments) -> None:
    world = payments.world
    dialog = await world.create(DialogType.CHANNEL, payments.ann, public=True)
    await world.act(bodies.MembersAdded, dialog, payments.bo, payments.bo)
    assert await payments.judge(dialog, payments.bo) is VerdictCode.ROLE_REQUIRED
    assert await payments.judge(dialog, payments.ann) is VerdictCode.OK


async def test_a_deleted_dialog_gets_no_payment_and_no_state_of_one(payments: Payments) -> None:
    dialog = await payments.group()
    await payments.world.act(bodies.DialogDeleted, dialog, payments.ann)
    for requester in (payments.ann, None):
        assert await payments.judge(dialog, requester) is VerdictCode.NOT_FOUND


async def test_a_repetition_is_answered_alike_whatever_became_of_the_requester(payments: Payments) -> None:
    world, relay = payments.world, payments.relay
    dialog = await payments.group()
    entry = message(dialog, relay, kind=Kind.PAYMENT, requester=payments.bo)
    (first,) = await world.flush(entry)
    await world.act(bodies.MemberLeft, dialog, payments.bo)
    (again,) = await world.flush(entry)
    assert (first.code, again.code, again.seq) == (VerdictCode.OK, VerdictCode.DUPLICATE, first.seq)


async def test_in_a_batch_each_row_has_its_own_requester(payments: Payments) -> None:
    world, relay = payments.world, payments.relay
    dialog = await payments.group()
    stranger = await world.person()
    verdicts = await world.flush(
        message(dialog, payments.ann),
        message(dialog, relay, kind=Kind.PAYMENT, requester=stranger),
        message(dialog, relay, kind=Kind.PAYMENT, requester=payments.ann),
        message(dialog, relay, kind=Kind.PAYMENT),
    )
    assert [each.code for each in verdicts] == [
        VerdictCode.OK,
        VerdictCode.NOT_FOUND,
        VerdictCode.OK,
        VerdictCode.OK,
    ]
