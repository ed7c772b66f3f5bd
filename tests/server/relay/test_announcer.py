"""The relay against the chat's real API: who reads what, once, in order; what it does when an answer does not come."""

from __future__ import annotations

import asyncio
import itertools
from uuid import UUID

import httpx
import pytest
from msgspec.structs import replace as replace_fields

from protocol import bodies
from protocol.commerce.payment_notice import PaymentNotice
from protocol.dialog_types import Mode
from protocol.ids import new_id
from server.relay.announcer import Announcer
from storage.commerce.announcement_rows import NUMBERS_SKIPPED
from tests.server.relay.between import Between

pytestmark = pytest.mark.anyio


def versions(notices: list[PaymentNotice]) -> list[int]:
    return [notice.version for notice in notices]


def refusal(status: int, code: str) -> httpx.Response:
    return httpx.Response(status, stream=httpx.ByteStream(b'{"code": "%s"}' % code.encode()))


async def test_members_see_the_state_and_parties_what_concerns_them(between: Between) -> None:
    await between.money.set_fee(100)
    relay, dialog = await between.relay(), await between.dialog()
    new = await between.request(dialog)
    await between.announce(relay)
    await between.approve(new)
    await between.announce(relay)
    shown = [notice for notice in await between.notices(dialog) if notice.version == 2]
    for_members = PaymentNotice(
        payment=UUID(bytes=new.payment),
        version=2,
        state="paid",
        payer=UUID(bytes=new.payer),
        payee=UUID(bytes=new.payee),
        amount_minor=700,
        currency="THB",
    )
    for_payer = replace_fields(for_members, dialog=UUID(bytes=dialog), captured_minor=700, refunded_minor=0)
    assert shown == [for_members]
    assert (await between.own_notices(between.ann))[-1] == for_payer
    assert (await between.own_notices(between.bo))[-1] == replace_fields(for_payer, fee_minor=7)
    for notices in (await between.notices(dialog), await between.own_notices(between.ann)):
        assert versions(notices) == [1, 2]


async def test_a_sealed_dialog_gets_id_and_version_alone(between: Between) -> None:
    relay, dialog = await between.relay(), await between.dialog(Mode.SEALED)
    new = await between.request(dialog)
    await between.announce(relay)
    await between.approve(new)
    await between.announce(relay)
    payment = UUID(bytes=new.payment)
    assert await between.notices(dialog) == [PaymentNotice(payment=payment, version=version) for version in (1, 2)]
    assert (await between.own_notices(between.ann))[-1].amount_minor == 700


async def test_a_request_says_when_it_expires(between: Between) -> None:
    relay, dialog = await between.relay(), await between.dialog()
    new = await between.request(dialog)
    await between.announce(relay)
    payment = await between.money.ledger.read_payment(new.payment)
    assert payment is not None
    assert [notice.expires_at_ms for notice in await between.notices(dialog)] == [payment.expires_us // 1000]


async def test_an_answer_that_is_lost_doubles_nothing(between: Between) -> None:
    relay, dialog = await between.relay(), await between.dialog()
    await between.request(dialog)
    between.network.lose_answers = True
    await between.announce(relay)
    assert relay.trouble
    between.network.lose_answers = False
    await between.lease_ends()
    await between.announce(relay)
    assert not relay.trouble
    for notices in (await between.notices(dialog), await between.own_notices(between.bo)):
        assert versions(notices) == [1]
    assert relay.fates["taken"] == 3


async def test_a_successor_repeats_what_a_relay_that_stood_still_had_numbered(between: Between) -> None:
    slow, quick, dialog = await between.relay(), await between.relay(), await between.dialog()
    new = await between.request(dialog)
    between.network.lose_answers = True
    await between.announce(slow, looks=1)  # one place is posted, and its answer lost
    between.network.lose_answers = False
    await between.approve(new)
    await between.lease_ends()
    await between.announce(quick)
    await between.announce(slow)
    for notices in (await between.notices(dialog), await between.own_notices(between.ann)):
        assert versions(notices) in ([1, 2], [2])
        assert versions(notices)[-1] == 2


async def test_a_relay_that_lost_its_lease_notes_nothing(between: Between) -> None:
    slow, quick, dialog = await between.relay(), await between.relay(), await between.dialog()
    await between.request(dialog)

    standing, over = itertools.count(1), asyncio.Event()

    async def stand_still(_request: httpx.Request) -> None:
        if next(standing) < 3:  # each of the three places
            await over.wait()
            return
        between.network.interfere = None
        await between.lease_ends()
        await between.announce(quick)
        over.set()

    between.network.interfere = stand_still
    await slow.look()
    await slow.finish()
    assert (quick.fates["taken"], slow.fates["taken"], slow.lost) == (3, 0, 3)
    assert versions(await between.notices(dialog)) == [1]


async def test_who_may_not_write_there_begins_no_payment_in_a_dialog(between: Between) -> None:
    relay, dialog = await between.relay(), await between.dialog()
    await between.world.act(bodies.MemberLeft, dialog, between.bo)
    new = await between.request(dialog)
    await between.announce(relay)
    await between.approve(new)
    await between.announce(relay)
    assert await between.notices(dialog) == []
    for person in (between.ann, between.bo):
        assert versions(await between.own_notices(person)) == [1, 2]
    assert relay.fates["refused"] == 1


async def test_who_has_left_reads_the_end_in_self_and_the_dialog_goes_on(between: Between) -> None:
    relay, dialog = await between.relay(), await between.dialog()
    new = await between.request(dialog)
    await between.announce(relay)
    await between.world.act(bodies.MemberLeft, dialog, between.bo)
    await between.approve(new)
    await between.announce(relay)
    assert versions(await between.notices(dialog)) == [1, 2]
    assert versions(await between.own_notices(between.bo)) == [1, 2]


async def test_in_a_dialog_that_is_not_there_nothing_is_announced_and_its_parties_hear(between: Between) -> None:
    relay = await between.relay()
    await between.request(new_id())
    await between.announce(relay)
    assert relay.fates == {"taken": 2, "refused": 1, "passed": 0}
    assert versions(await between.own_notices(between.ann)) == [1]


async def test_a_renewed_key_is_read_again_and_nothing_is_doubled(between: Between) -> None:
    relay, dialog = await between.relay(), await between.dialog()
    new = await between.request(dialog)
    await between.announce(relay)
    answer = await between.admin.ask("POST", f"/v1/admin/services/{between.service}/key")
    await between.approve(new)
    await between.announce(relay)
    assert "API key" in relay.trouble
    between.key = answer.json()["key"]
    await between.lease_ends()
    await between.announce(relay)
    assert not relay.trouble
    assert versions(await between.notices(dialog)) == [1, 2]
    assert relay.fates["refused"] == 0


async def test_a_relay_that_is_suspended_refuses_nothing_for_ever(between: Between) -> None:
    relay, dialog = await between.relay(), await between.dialog()
    await between.request(dialog)
    await between.admin.ask("POST", f"/v1/admin/principals/{between.service}/suspend")
    await between.announce(relay)
    assert (relay.trouble != "", relay.fates["refused"]) == (True, 0)
    await between.admin.ask("POST", f"/v1/admin/principals/{between.service}/reinstate")
    await between.lease_ends()
    await between.announce(relay)
    assert versions(await between.notices(dialog)) == [1]


async def test_a_requester_who_is_suspended_begins_no_payment(between: Between) -> None:
    relay, dialog = await between.relay(), await between.dialog()
    await between.request(dialog)
    await between.world.pool.execute("UPDATE principals SET status = 2 WHERE principal_id = $1", between.bo.principal)
    await between.announce(relay)
    assert (await between.notices(dialog), relay.trouble) == ([], "")
    assert versions(await between.own_notices(between.ann)) == [1]


@pytest.mark.parametrize("code", ["unavailable", "rate_limited", "internal", "invalid_argument", "of_tomorrow"])
async def test_what_is_no_final_answer_is_asked_again(between: Between, code: str) -> None:
    relay, dialog = await between.relay(), await between.dialog()
    await between.request(dialog)

    async def refuse(request: httpx.Request) -> httpx.Response | None:
        return refusal(503, code) if request.url.path.startswith("/v1/dialogs") else None

    between.network.interfere = refuse
    await between.announce(relay)
    assert (await between.notices(dialog), relay.fates["refused"]) == ([], 0)
    between.network.interfere = None
    await between.lease_ends()
    await between.announce(relay)
    assert versions(await between.notices(dialog)) == [1]


async def test_a_place_that_waits_holds_up_no_other(between: Between) -> None:
    relay, stuck, other = await between.relay(), await between.dialog(), await between.dialog()
    await between.request(stuck)
    await between.request(other)

    async def refuse(request: httpx.Request) -> httpx.Response | None:
        return refusal(503, "unavailable") if str(UUID(bytes=stuck)) in request.url.path else None

    between.network.interfere = refuse
    await between.announce(relay)
    assert versions(await between.notices(other)) == [1]
    assert versions(await between.own_notices(between.ann)) == [1, 1]
    assert relay.trouble == ""


async def test_while_the_chat_is_away_one_place_is_tried_at_a_time(between: Between) -> None:
    relay = await between.relay()
    for _ in range(5):
        await between.request(await between.dialog())

    async def fail(_request: httpx.Request) -> None:
        raise httpx.ConnectError("nobody is there")

    between.network.interfere = fail
    await between.announce(relay, looks=1)
    tried = len(between.network.requests)
    await between.lease_ends()
    await between.announce(relay, looks=1)
    assert len(between.network.requests) == tried + 1


async def test_a_ledger_that_was_restored_goes_on_above_the_numbers_that_the_chat_knows(between: Between) -> None:
    relay, dialog = await between.relay(), await between.dialog()
    new = await between.request(dialog)
    await between.announce(relay)
    await between.money.database.execute("UPDATE places SET last_n = 0")
    await between.approve(new)
    await between.announce(relay)
    assert versions(await between.notices(dialog)) == [1, 2]
    assert relay.fates["passed"] == 3
    assert max(each["n"] for each in between.network.posted()) == NUMBERS_SKIPPED + 2


async def test_in_a_new_epoch_the_newest_versions_are_announced_anew(between: Between) -> None:
    relay, dialog = await between.relay(), await between.dialog()
    new = await between.request(dialog)
    await between.approve(new)
    await between.announce(relay)
    await relay.follow_epoch()
    await between.announce(relay)
    assert versions(await between.notices(dialog)) == [2]
    await between.world.pool.execute("UPDATE deployment SET epoch = epoch + 1")
    await relay.follow_epoch()
    await between.announce(relay)
    assert versions(await between.notices(dialog)) == [2, 2]
    assert versions(await between.own_notices(between.ann)) == [2, 2]


async def test_a_relay_that_is_stopped_finishes_the_post_at_hand_and_no_more(between: Between) -> None:
    relay, dialog = await between.relay(), await between.dialog()
    for _ in range(3):
        await between.request(dialog)

    async def stop(request: httpx.Request) -> None:
        if request.method == "POST" and str(UUID(bytes=dialog)) in request.url.path:
            relay.stop()

    between.network.interfere = stop
    await relay.look()
    await relay.finish()
    assert versions(await between.notices(dialog)) == [1]
    await relay.run()
    after: Announcer = await between.relay()
    between.network.interfere = None
    await between.announce(after)
    assert versions(await between.notices(dialog)) == [1, 1, 1]
