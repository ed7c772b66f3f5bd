"""Payments over a socket, against a commerce that follows the contract, or does not."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from protocol import bodies, ids
from protocol.codec import JSON, MSGPACK, Codec
from protocol.commands import Delete, Edit, React, Send
from protocol.dialog_types import DialogType, Mode
from protocol.errors import ErrorCode
from protocol.ids import new_id, to_text
from protocol.kinds import Kind
from protocol.payment_commands import OF_COMMERCE, Pay, PayAction, ReadPayment
from protocol.replies import Acked, Failed, PaymentAnswer, Reply
from server.config.payment_settings import CommerceSettings
from server.config.settings import RateSettings
from storage.rows import PrincipalStatus, PrincipalType
from tests.support.fake_commerce import FakeCommerce, fake_commerce, refusal, response
from tests.support.harness import KEYS, Running, configured, running
from tests.support.world import Person, message

pytestmark = pytest.mark.anyio

OPEN = Mode.OPEN


class Stage:
    """Ann and Bo in a direct dialog on a node, and the commerce that it calls."""

    def __init__(self, node: Running, commerce: FakeCommerce, ann: Person, bo: Person, dialog: bytes) -> None:
        self.node, self.commerce, self.world = node, commerce, node.world
        self.ann, self.bo, self.dialog = ann, bo, dialog

    def request(self, number: int, n: int, **other: Any) -> Pay:
        """Ann asks Bo for money."""
        asked: dict[str, Any] = {"party": self.bo.principal, "amount_minor": 150_000, "currency": "THB"} | other
        return Pay(number, self.dialog, n, PayAction.REQUEST, **asked)

    def send(self, number: int, n: int, **other: Any) -> Pay:
        """Ann sends Bo money."""
        return replace(self.request(number, n, **other), action=PayAction.SEND)

    def approve(self, number: int, n: int, seen: PaymentAnswer, **other: Any) -> Pay:
        """The approval of what was seen."""
        fields = {name: getattr(seen, name) for name in ("payment", "version", "amount_minor", "currency", "payee")}
        return Pay(number, self.dialog, n, PayAction.APPROVE, **(fields | other))


@contextlib.asynccontextmanager
async def staged(database_url: str, rates: RateSettings | None = None, **settings: Any) -> AsyncIterator[Stage]:
    """A stage; `settings` are those of `[commerce]`."""
    async with fake_commerce(KEYS) as commerce:
        section = CommerceSettings(**{"url": commerce.url, **settings})
        async with running(database_url, configured(commerce=section, limits=rates or RateSettings())) as node:
            ann, bo = await node.world.people(2)
            dialog = await node.world.create(DialogType.DIRECT, ann, bo)
            yield Stage(node, commerce, ann, bo, dialog)


def code_of(reply: Any) -> str:
    assert isinstance(reply, Failed), reply
    return reply.code


@pytest.mark.parametrize("codec", [MSGPACK, JSON], ids=["msgpack", "json"])
async def test_a_payment_is_requested_approved_and_refunded(database_url: str, codec: Codec) -> None:
    async with staged(database_url) as stage, stage.node.live(stage.ann, codec) as a:
        asked = await a.ask(stage.request(3, 1, capture_later=True, expires_in_s=600))
        assert isinstance(asked, PaymentAnswer)
        assert (asked.version, asked.state, asked.amount_minor, asked.currency) == (1, "requested", 150_000, "THB")
        assert (asked.payer, asked.payee, asked.dialog) == (stage.bo.principal, stage.ann.principal, stage.dialog)
        async with stage.node.live(stage.bo, codec) as b:
            proof = {"signature": bytes(64), "step_up": "seen"}
            approved = await b.ask(stage.approve(3, 1, asked, **proof))
            assert (approved.payment, approved.version, approved.state) == (asked.payment, 2, "paid")
        refunded = await a.ask(Pay(4, stage.dialog, 2, PayAction.REFUND, payment=asked.payment, amount_minor=5))
        assert (refunded.state, refunded.version) == ("refunded", 3)
        assert await a.ask(ReadPayment(5, asked.payment)) == replace(refunded, id=5)
    first, second, third, fourth = stage.commerce.asked
    new = msgspec.json.decode(first.body)
    assert (new["intent"], new["capture"], new["expires_in_s"]) == ("request", "later", 600)
    assert first.key == f"{stage.ann.device.hex()}.{stage.dialog.hex()}.1"
    assert (first.claims["sub"], first.claims["tenant"]) == (to_text(stage.ann.principal), 1)
    assert msgspec.json.decode(second.body)["proof"] == {
        "device": to_text(stage.bo.device),
        "signature": base64.b64encode(bytes(64)).decode(),
        "step_up": "seen",
    }
    assert second.claims["device"] == to_text(stage.bo.device)
    assert msgspec.json.decode(third.body) == {"amount_minor": 5}
    assert (fourth.method, fourth.key, fourth.body) == ("GET", "", b"")


async def test_the_same_number_gets_the_first_answer_on_every_connection(database_url: str) -> None:
    async with staged(database_url) as stage:
        answers = []
        for number in (3, 4):
            async with stage.node.live(stage.ann) as a:
                answers.append(replace(await a.ask(stage.send(number, 7)), id=0))
        assert answers[0] == answers[1]
        assert answers[0].state == "paid"
        assert len(stage.commerce.payments) == 1


async def test_a_number_is_used_once(database_url: str) -> None:
    async with staged(database_url) as stage, stage.node.live(stage.ann) as a:
        paid = await a.ask(stage.send(3, 7))
        assert code_of(await a.ask(stage.request(4, 7))) == ErrorCode.CONFLICT
        cancel = Pay(5, stage.dialog, 7, PayAction.CANCEL, payment=paid.payment)
        assert code_of(await a.ask(cancel)) == ErrorCode.CONFLICT
        assert code_of(await a.ask(stage.send(6, 7, amount_minor=1))) == ErrorCode.KEY_REUSED
        assert len(stage.commerce.payments) == 1


async def test_a_repeated_command_gets_its_answer_after_the_other_party_has_left(database_url: str) -> None:
    """Its sender may have lost the answer: told that nothing was paid, they would pay again."""
    async with staged(database_url) as stage, stage.node.live(stage.ann) as a:
        cy = await stage.world.person()
        group = await stage.world.create(DialogType.GROUP, stage.ann, stage.bo, cy)
        paid = await a.ask(replace(stage.send(3, 1), dialog=group))
        await stage.world.act(bodies.MemberLeft, group, stage.bo)
        assert await a.ask(replace(stage.send(4, 1), dialog=group)) == replace(paid, id=4)
        assert code_of(await a.ask(replace(stage.send(5, 2), dialog=group))) == ErrorCode.NOT_MEMBER
        await stage.world.act(bodies.MemberLeft, group, stage.ann)
        assert await a.ask(replace(stage.send(6, 1), dialog=group)) == replace(paid, id=6)
        assert len(stage.commerce.payments) == 1


async def test_only_members_who_may_write_begin_payments_and_only_with_members(database_url: str) -> None:
    async with staged(database_url) as stage:
        world, ann = stage.world, stage.ann
        eve, cy = await world.people(2)
        channel = await world.create(DialogType.CHANNEL, ann, public=True)
        await world.act(bodies.MembersAdded, channel, stage.bo, stage.bo)
        blocked = await world.create(DialogType.DIRECT, ann, cy)
        await world.pool.execute("INSERT INTO blocks VALUES ($1, $2)", ann.principal, cy.principal)
        async with stage.node.live(ann) as a, stage.node.live(eve) as e, stage.node.live(stage.bo) as b:
            assert code_of(await e.ask(stage.send(3, 1))) == ErrorCode.DIALOG_NOT_FOUND
            decline = Pay(4, stage.dialog, 2, PayAction.DECLINE, payment=new_id())
            assert code_of(await e.ask(decline)) == ErrorCode.DIALOG_NOT_FOUND
            assert code_of(await a.ask(stage.send(3, 1, party=eve.principal))) == ErrorCode.NOT_MEMBER
            behalf = stage.request(4, 2, payee=eve.principal)
            assert code_of(await a.ask(behalf)) == ErrorCode.NOT_MEMBER
            to_cy = replace(stage.send(5, 3, party=cy.principal), dialog=blocked)
            assert code_of(await a.ask(to_cy)) == ErrorCode.BLOCKED
            from_bo = replace(stage.request(3, 1, party=ann.principal), dialog=channel)
            assert code_of(await b.ask(from_bo)) == ErrorCode.ROLE_REQUIRED
            suspend = "UPDATE principals SET status = $2 WHERE principal_id = $1"
            await world.pool.execute(suspend, ann.principal, PrincipalStatus.SUSPENDED)
            assert code_of(await a.ask(stage.send(6, 4))) == ErrorCode.SUSPENDED
        assert not stage.commerce.asked


@pytest.mark.parametrize("kind", [PrincipalType.BOT, PrincipalType.BUSINESS])
async def test_bots_and_businesses_ask_and_refund_but_never_send_or_approve(
    database_url: str, kind: PrincipalType
) -> None:
    async with staged(database_url) as stage:
        bot = await stage.world.person(kind)
        dialog = await stage.world.create(DialogType.DIRECT, bot, stage.bo)
        async with stage.node.live(bot) as wire:
            asked = await wire.ask(replace(stage.request(3, 1), dialog=dialog))
            assert (asked.state, asked.payee) == ("requested", bot.principal)
            assert code_of(await wire.ask(replace(stage.send(4, 2), dialog=dialog))) == ErrorCode.NOT_ALLOWED
            for number in (1, 3):  # also under a number that was passed on
                approve = replace(stage.approve(5, number, asked), dialog=dialog)
                assert code_of(await wire.ask(approve)) == ErrorCode.NOT_ALLOWED
            refund = Pay(6, dialog, 4, PayAction.REFUND, payment=asked.payment)
            assert (await wire.ask(refund)).state == "refunded"
        assert [each.path.rpartition("/")[2] for each in stage.commerce.asked] == ["payments", "refund"]


async def test_a_business_that_is_a_member_is_the_payee_of_its_bots_request(database_url: str) -> None:
    async with staged(database_url) as stage:
        bot, shop = await stage.world.person(PrincipalType.BOT), await stage.world.person(PrincipalType.BUSINESS)
        group = await stage.world.create(DialogType.GROUP, stage.ann, stage.bo, bot, shop)
        async with stage.node.live(bot) as wire:
            asked = await wire.ask(replace(stage.request(3, 1, payee=shop.principal), dialog=group))
        assert (asked.payer, asked.payee) == (stage.bo.principal, shop.principal)


@pytest.mark.parametrize(
    ("action", "fields", "wrong"),
    [
        (PayAction.REQUEST, {}, "request needs amount_minor, currency, party"),
        (PayAction.SEND, {"party": new_id(), "amount_minor": 1}, "send needs currency"),
        (PayAction.SEND, {"party": new_id(), "amount_minor": 1, "currency": "THB", "payee": new_id()}, "has no payee"),
        (PayAction.APPROVE, {"payment": new_id(), "version": 1}, "approve needs amount_minor, currency, payee"),
        (PayAction.DECLINE, {}, "decline needs payment"),
        (PayAction.CANCEL, {"payment": new_id(), "amount_minor": 1}, "cancel has no amount_minor"),
        (PayAction.REFUND, {"payment": new_id(), "step_up": "x"}, "refund has no step_up"),
    ],
)
async def test_a_command_has_the_fields_of_its_action(
    database_url: str, action: PayAction, fields: dict[str, Any], wrong: str
) -> None:
    async with staged(database_url) as stage, stage.node.live(stage.ann) as a:
        refused = await a.ask(Pay(3, stage.dialog, 1, action, **fields))
        assert code_of(refused) == ErrorCode.INVALID_ARGUMENT
        assert wrong in refused.message
        assert not stage.commerce.asked


@pytest.mark.parametrize("amount", [0, -1, 10.5, 10**15 + 1, "1"])
async def test_an_amount_that_is_none_is_refused_and_nothing_is_asked(database_url: str, amount: Any) -> None:
    async with staged(database_url) as stage, stage.node.live(stage.ann, JSON) as a:
        assert code_of(await a.ask(stage.request(3, 1, amount_minor=amount))) == ErrorCode.MALFORMED
        assert not stage.commerce.asked


async def test_oneself_and_a_currency_that_does_not_exist_are_refused_here(database_url: str) -> None:
    async with staged(database_url) as stage, stage.node.live(stage.ann) as a:
        assert code_of(await a.ask(stage.send(3, 1, party=stage.ann.principal))) == ErrorCode.OWN_PAYEE
        assert code_of(await a.ask(stage.send(4, 2, currency="XXX"))) == ErrorCode.CURRENCY_REFUSED
        assert not stage.commerce.asked


@pytest.mark.parametrize(
    "code",
    [
        ErrorCode.INSUFFICIENT,
        ErrorCode.OVER_LIMIT,
        ErrorCode.CHANGED,
        ErrorCode.PROOF_REQUIRED,
        ErrorCode.PAYMENT_NOT_FOUND,
        ErrorCode.PAYMENT_STATE,
        ErrorCode.PAYMENT_EXPIRED,
        ErrorCode.AMOUNT_REFUSED,
        ErrorCode.CURRENCY_REFUSED,
        ErrorCode.OWN_PAYEE,
        ErrorCode.WALLET_NOT_FOUND,
        ErrorCode.WALLET_CLOSED,
        ErrorCode.KEY_REUSED,
    ],
)
async def test_a_refusal_of_commerce_is_the_clients(database_url: str, code: ErrorCode) -> None:
    async with staged(database_url) as stage, stage.node.live(stage.ann) as a:
        stage.commerce.script.extend([refusal(code), refusal(code, 404)])
        for command in (stage.send(3, 1), ReadPayment(4, new_id())):
            refused = await a.ask(command)
            assert (code_of(refused), refused.message) == (code, code.sentence)
    assert code in OF_COMMERCE


async def test_commerce_says_how_long_to_wait(database_url: str) -> None:
    async with staged(database_url) as stage, stage.node.live(stage.ann) as a:
        stage.commerce.script.extend([refusal("rate_limited", 429, 7.5), refusal("unavailable", 503)])
        limited, away = [await a.ask(stage.send(number, number)) for number in (3, 4)]
        assert (limited.code, limited.retry_after_s) == (ErrorCode.RATE_LIMITED, 7.5)
        assert (away.code, away.retry_after_s > 0) == (ErrorCode.UNAVAILABLE, True)


STRANGE = {
    "html": response(502, b"<html>secret</html>"),
    "nothing": response(200, b""),
    "another code": refusal("token_expired", 401),
    "an unknown code": refusal("secret", 409),
    "no http": b"secret\r\n\r\n",
    "a redirect": response(302, b"", "location: http://127.0.0.1:9/secret"),
    "too much": response(200, b" " * 100_000),
    "another payment": response(
        200,
        msgspec.json.encode(
            {
                "id": to_text(ids.new_id()),
                "version": 1,
                "state": "paid",
                "payer": to_text(ids.new_id()),
                "payee": to_text(ids.new_id()),
                "amount_minor": 1,
                "currency": "EUR",
            }
        ),
    ),
}


@pytest.mark.parametrize("answer", STRANGE.values(), ids=STRANGE)
async def test_what_is_not_of_the_contract_is_unavailable_and_logged_once_without_content(
    database_url: str, answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with staged(database_url) as stage, stage.node.live(stage.ann) as a:
        stage.commerce.script.extend([answer, answer])
        for number in (3, 4):
            refused = await a.ask(stage.send(number, 1))
            assert (code_of(refused), refused.retry_after_s > 0) == (ErrorCode.UNAVAILABLE, True)
        assert (await a.ask(stage.send(5, 1))).state == "paid"
        stage.commerce.script.append(answer)
        assert code_of(await a.ask(stage.send(6, 1))) == ErrorCode.UNAVAILABLE
    said = [record.getMessage() for record in caplog.records if record.name.startswith("server.payments")]
    assert len(said) == 2  # one for each time that it began
    assert not any("secret" in line or "EUR" in line for line in said)


async def test_a_commerce_that_is_down_or_silent_is_unavailable_in_time_and_holds_nobody_up(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with staged(database_url, timeout_s=0.3) as stage, stage.node.live(stage.ann) as a:
        stage.commerce.script.append(None)
        loop = asyncio.get_running_loop()
        began = loop.time()
        await a.send(stage.send(3, 1))
        await a.send(Send(4, stage.dialog, 2, b"hello"))
        replies: list[Reply] = []
        while len(replies) < 2:
            if isinstance(message := await a.receive(), Reply):
                replies.append(message)
        assert isinstance(replies[0], Acked)
        assert code_of(replies[1]) == ErrorCode.UNAVAILABLE
        assert 0.25 < loop.time() - began < 2
        assert (await a.ask(stage.send(5, 1))).state == "paid"
        assert stage.node.paying.under_way == 0
        assert stage.node.paying.outcomes == {"answered": 1, "refused": 0, "unavailable": 1}
    said = [record.getMessage() for record in caplog.records if record.name.startswith("server.payments")]
    assert said == ["commerce does not answer: TimeoutError"]


async def test_without_a_commerce_payments_are_unavailable_and_it_says_why(database_url: str) -> None:
    async with staged(database_url, url="") as stage, stage.node.live(stage.ann) as a:
        for command in (stage.send(3, 1), ReadPayment(4, new_id())):
            refused = await a.ask(command)
            assert code_of(refused) == ErrorCode.UNAVAILABLE
            assert "payments are not configured" in refused.message


async def test_calls_under_way_are_bounded_for_a_device_and_for_the_node(database_url: str) -> None:
    async with staged(database_url, calls_max=3, calls_per_device_max=2, timeout_s=1.0) as stage:
        stage.commerce.script.extend([None] * 3)
        async with stage.node.live(stage.ann) as a, stage.node.live(stage.bo) as b:
            await a.send(stage.send(3, 1))
            await a.send(stage.send(4, 2))
            assert code_of(await a.ask(stage.send(5, 3))) == ErrorCode.RATE_LIMITED
            back = stage.send(3, 1, party=stage.ann.principal)
            await b.send(back)
            assert code_of(await b.ask(replace(back, id=4, n=2))) == ErrorCode.UNAVAILABLE
            for wire, number in ((a, 3), (a, 4), (b, 3)):
                assert code_of(await wire.receive_reply(number)) == ErrorCode.UNAVAILABLE
            assert stage.node.paying.under_way == 0
            assert (await a.ask(stage.send(6, 1))).state == "paid"


async def test_payments_have_a_rate_of_their_own(database_url: str) -> None:
    rates = RateSettings(payments_per_person_per_h=2, payment_reads_per_person_per_h=1)
    async with staged(database_url, rates) as stage, stage.node.live(stage.ann) as a:
        for number in (3, 4):
            paid = await a.ask(stage.send(number, number))
        limited = await a.ask(stage.send(5, 5))
        assert (code_of(limited), limited.retry_after_s > 0) == (ErrorCode.RATE_LIMITED, True)
        assert (await a.ask(ReadPayment(6, paid.payment))).state == "paid"
        assert code_of(await a.ask(ReadPayment(7, paid.payment))) == ErrorCode.RATE_LIMITED
        assert isinstance(await a.ask(Send(8, stage.dialog, 9, b"hello")), Acked)


async def test_who_goes_away_before_the_answer_harms_nobody(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with staged(database_url, timeout_s=0.3) as stage:
        stage.commerce.script.append(None)
        async with stage.node.live(stage.ann) as a:
            await a.send(stage.send(3, 1))
            await stage.commerce.arrived.wait()
        await asyncio.gather(*stage.node.node._tasks)
        assert stage.node.paying.under_way == 0
        async with stage.node.live(stage.ann) as a:
            assert (await a.ask(stage.send(3, 1))).state == "paid"
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_members_cannot_change_or_delete_a_state_of_a_payment(database_url: str) -> None:
    """What hangs on it is a reaction, which takes nothing away."""
    async with staged(database_url) as stage, stage.node.live(stage.ann) as a:
        world = stage.world
        relay = await world.person(PrincipalType.SERVICE)
        group = await world.create(DialogType.GROUP, stage.ann, stage.bo, await world.person())
        (paid,) = await world.flush(message(group, relay, kind=Kind.PAYMENT, requester=stage.ann))
        assert code_of(await a.ask(Send(3, group, 101, b"", kind=Kind.PAYMENT))) == ErrorCode.NOT_ALLOWED
        assert code_of(await a.ask(Edit(4, group, 102, paid.seq, b"x"))) == ErrorCode.EVENT_NOT_FOUND
        assert code_of(await a.ask(Delete(5, group, 103, paid.seq))) == ErrorCode.NOT_ALLOWED
        assert isinstance(await a.ask(React(6, group, 104, paid.seq, b"+")), Acked)
        row = await world.pool.fetchrow("SELECT tag FROM journal WHERE dialog_id = $1 AND seq = $2", group, paid.seq)
        assert row is not None
        assert row["tag"] == 1
