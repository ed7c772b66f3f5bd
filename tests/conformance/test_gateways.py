"""Every engine of a payment gateway keeps the contract, over real sockets, against the fake gateway as a process."""

from __future__ import annotations

import asyncio
import pkgutil
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from importlib import import_module
from inspect import getmembers, isclass
from typing import Literal

import pytest

from protocol.commerce.intent_states import EffectKind
from server.commerce import gateways
from server.commerce.gateways.effects import effects_of
from server.commerce.gateways.gateway_contract import (
    ChargeCall,
    FateUnknown,
    Gateway,
    GatewayRefusal,
    GatewayUnavailableError,
    WebhookHint,
)
from server.commerce.gateways.gateway_objects import GatewayObject, ObjectKind, ObjectStatus
from server.commerce.gateways.webhook_reading import WebhookRefusedError
from server.webhooks.posting import sign
from tests.support.clock import ManualClock
from tests.support.fake_gateway.process import WEBHOOK_SECRET, FakeGateway
from tests.support.gateway_stage import ENGINES, Stage, an_object, base, card, code, now_ms, payout, refund

pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("fake_gateway")]

SETTLE_S = 60.0
LATE_S = 30.0
KEY_WINDOW_S = 3600
OTHER_SECRET = "whsec_b3RoZXJvdGhlcm90aGVyb3RoZXJvdGhlcm90aGVyb28="


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeGateway]:
    options = {"settle-s": str(SETTLE_S), "late-s": str(LATE_S), "key-window-s": str(KEY_WINDOW_S)}
    with FakeGateway(tmp_path_factory.mktemp("gateway"), options) as running:
        yield running


@pytest.fixture(params=ENGINES)
async def stage(fake: FakeGateway, request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    fake.have_faults()
    stage = Stage(fake, request.param)
    yield stage
    await stage.aclose()


async def test_a_repeated_call_is_one_call(stage: Stage) -> None:
    charge, pay_out = card(), payout()
    first = an_object(await stage.gateway.charge(charge))
    give_back = refund(first, 400)
    for _ in range(3):
        assert an_object(await stage.gateway.charge(charge)) == first
    refunds = {an_object(await stage.gateway.refund(give_back)).id for _ in range(3)}
    payouts = {an_object(await stage.gateway.payout(pay_out)).id for _ in range(3)}
    assert [len(each) for each in (refunds, payouts)] == [1, 1]
    for call in (charge, give_back, pay_out):
        assert len(stage.booked(call.reference)) == 1


async def test_calls_that_race_under_one_reference_are_one_call(stage: Stage) -> None:
    call = card()
    answers = await asyncio.gather(*(stage.gateway.charge(call) for _ in range(20)))
    assert len({an_object(answer).id for answer in answers}) == 1
    assert len(stage.booked(call.reference)) == 1


async def test_a_reference_of_another_call_leaves_the_fate_unknown_and_moves_nothing(stage: Stage) -> None:
    call = card()
    await stage.gateway.charge(call)
    other = ChargeCall(**{**base(), "reference": call.reference}, amount_minor=2000, method="card", source="tok_visa")
    assert isinstance(await stage.gateway.charge(other), FateUnknown)
    assert [each["amount_minor"] for each in stage.booked(call.reference)] == [1000]


async def test_a_refusal_is_the_answer_to_its_reference_also_when_it_would_fit_later(stage: Stage) -> None:
    charge = await stage.paid_card()
    stage.fake.have_faults(refund_fails=1)
    await stage.gateway.refund(refund(charge, 600))
    second = refund(charge, 600)
    assert await stage.gateway.refund(second) == GatewayRefusal("above_the_charge")
    stage.fake.advance(SETTLE_S)
    assert await stage.gateway.refund(second) == GatewayRefusal("above_the_charge")
    assert stage.booked(second.reference) == []
    assert an_object(await stage.gateway.refund(refund(charge, 600))).status is ObjectStatus.PENDING


async def test_an_intent_older_than_the_key_window_is_not_sent(stage: Stage) -> None:
    for call in (card(), payout()):
        clock = ManualClock(call.written_at_ms)
        gateway = stage.engine(clock=clock)
        clock.advance(gateway.key_window_s)
        send = gateway.charge(call) if isinstance(call, ChargeCall) else gateway.payout(call)
        assert isinstance(await send, FateUnknown)
        assert stage.booked(call.reference) == []


async def test_what_was_charged_again_past_the_window_is_found_and_listed_twice(stage: Stage) -> None:
    since_ms = now_ms()
    call = card()
    await stage.gateway.charge(call)
    stage.fake.advance(KEY_WINDOW_S)
    await stage.gateway.charge(call)  # a caller whose clock stands
    found = await stage.gateway.find(ObjectKind.CHARGE, call.reference)
    assert len(found) == 2
    listed = await stage.list_all(since_ms, found[-1].changed_at_ms + 1)
    assert [each for each in listed if each.reference == call.reference] == found


@pytest.mark.parametrize("fault", ["call_cut", "call_500", "call_times_out"])
async def test_what_was_done_without_an_answer_is_unknown_and_found(stage: Stage, fault: str) -> None:
    stage.fake.have_faults(**{fault: 1})
    call = card()
    assert isinstance(await stage.engine(timeout_s=0.5).charge(call), FateUnknown)
    stage.fake.have_faults()
    [found] = await stage.gateway.find(ObjectKind.CHARGE, call.reference)
    assert an_object(await stage.gateway.charge(call)) == found
    assert len(stage.booked(call.reference)) == 1


async def test_what_was_not_done_is_unknown_and_found_nowhere(stage: Stage) -> None:
    stage.fake.have_faults(call_lost=1)
    call = card()
    assert isinstance(await stage.gateway.charge(call), FateUnknown)
    assert await stage.gateway.find(ObjectKind.CHARGE, call.reference) == []
    stage.fake.have_faults()
    an_object(await stage.gateway.charge(call))
    assert len(stage.booked(call.reference)) == 1


async def test_a_call_that_arrives_late_is_found_late_and_is_one_with_its_repetition(stage: Stage) -> None:
    stage.fake.have_faults(call_late=1)
    alone, repeated = card(), card()
    for call in (alone, repeated):
        assert isinstance(await stage.gateway.charge(call), FateUnknown)
        assert await stage.gateway.find(ObjectKind.CHARGE, call.reference) == []
    stage.fake.have_faults()
    an_object(await stage.gateway.charge(repeated))
    stage.fake.advance(LATE_S)
    for call in (alone, repeated):
        assert len(await stage.gateway.find(ObjectKind.CHARGE, call.reference)) == 1


async def test_a_gateway_that_takes_no_more_calls_is_unavailable_and_did_nothing(stage: Stage) -> None:
    stage.fake.have_faults(call_limited=1)
    call = card()
    with pytest.raises(GatewayUnavailableError) as caught:
        await stage.gateway.charge(call)
    assert caught.value.retry_after_s == 2
    assert stage.booked(call.reference) == []


async def test_a_wrong_key_refuses_nobodys_payment(stage: Stage) -> None:
    gateway = stage.engine(api_key="wrong")
    with pytest.raises(GatewayUnavailableError):
        await gateway.charge(card())
    with pytest.raises(GatewayUnavailableError):
        await gateway.find(ObjectKind.CHARGE, "r")


async def test_a_gateway_that_is_away_is_unavailable_and_comes_back_with_its_book(stage: Stage) -> None:
    charge = await stage.paid_card()
    stage.fake.kill()
    calls = (
        stage.gateway.charge(card()),
        stage.gateway.fetch(ObjectKind.CHARGE, charge.id),
        stage.gateway.find(ObjectKind.CHARGE, "r"),
        stage.gateway.list_changed(0, now_ms()),
    )
    try:
        for call in calls:
            with pytest.raises(GatewayUnavailableError):
                await call
    finally:
        stage.fake.start()
    assert await stage.gateway.fetch(ObjectKind.CHARGE, charge.id) == charge


async def test_a_read_that_fails_never_says_that_there_is_nothing(stage: Stage) -> None:
    stage.fake.have_faults(read_500=1)
    for read in (
        stage.gateway.fetch(ObjectKind.CHARGE, "ch_1"),
        stage.gateway.find(ObjectKind.CHARGE, "r"),
        stage.gateway.list_changed(0, now_ms()),
    ):
        with pytest.raises(GatewayUnavailableError):
            await read


async def test_what_is_not_there_is_none(stage: Stage) -> None:
    charge = await stage.paid_card()
    assert await stage.gateway.fetch(ObjectKind.CHARGE, "ch_nobody") is None
    assert await stage.gateway.fetch(ObjectKind.REFUND, charge.id) is None
    assert charge.reference is not None
    assert await stage.gateway.find(ObjectKind.REFUND, charge.reference) == []


async def test_a_card_is_paid_at_once_or_later_or_not(stage: Stage) -> None:
    paid = await stage.paid_card()
    assert await stage.effects(ObjectKind.CHARGE, paid.id) == [(EffectKind.CHARGE_PAID, 1000)]
    for faults, effect in (
        ({"card_pending": 1}, (EffectKind.CHARGE_PAID, 1000)),
        ({"card_pending": 1, "card_fails": 1}, (EffectKind.CHARGE_FAILED, 0)),
    ):
        stage.fake.have_faults(**faults)
        pending = await stage.paid_card()
        assert (pending.status, effects_of("g", pending)) == (ObjectStatus.PENDING, [])
        stage.fake.advance(SETTLE_S)
        assert await stage.effects(ObjectKind.CHARGE, pending.id) == [effect]


async def test_a_declined_card_is_refused_and_its_charge_has_failed(stage: Stage) -> None:
    stage.fake.have_faults(card_declined=1)
    call = card()
    assert await stage.gateway.charge(call) == GatewayRefusal("card_declined")
    [failed] = await stage.gateway.find(ObjectKind.CHARGE, call.reference)
    assert await stage.effects(ObjectKind.CHARGE, failed.id) == [(EffectKind.CHARGE_FAILED, 0)]


@pytest.mark.parametrize("method", ["promptpay", "qris"])
async def test_each_payment_of_a_code_is_an_object_and_an_effect(
    stage: Stage, method: Literal["promptpay", "qris"]
) -> None:
    charge = an_object(await stage.gateway.charge(code(method)))
    assert charge.qr
    assert charge.status is ObjectStatus.PENDING
    amounts = [400, 1000, 1100]  # in part; again; too much
    paid = [stage.fake.order("/customers/pay", charge=charge.id, amount_minor=amount) for amount in amounts]
    stage.fake.advance(600)
    paid.append(stage.fake.order("/customers/pay", charge=charge.id))  # late
    for payment, amount in zip(paid, [*amounts, 1000], strict=True):
        found = await stage.gateway.fetch(ObjectKind.PAYMENT, payment["id"])
        assert found is not None
        assert found.parent == charge.id
        assert await stage.effects(ObjectKind.PAYMENT, found.id) == [(EffectKind.PAYMENT_RECEIVED, amount)]
    assert await stage.effects(ObjectKind.CHARGE, charge.id) == []


async def test_a_code_that_has_expired_may_be_paid(stage: Stage) -> None:
    charge = an_object(await stage.gateway.charge(code()))
    stage.fake.advance(600)
    expired = await stage.gateway.fetch(ObjectKind.CHARGE, charge.id)
    assert expired is not None
    assert (expired.status, expired.version) == (ObjectStatus.EXPIRED, charge.version + 1)
    payment = stage.fake.order("/customers/pay", charge=charge.id)
    assert await stage.effects(ObjectKind.PAYMENT, payment["id"]) == [(EffectKind.PAYMENT_RECEIVED, 1000)]


async def test_money_that_nobody_asked_for_is_a_payment_of_no_charge(stage: Stage) -> None:
    stray = stage.fake.order("/customers/stray", amount_minor=77, currency="THB")
    found = await stage.gateway.fetch(ObjectKind.PAYMENT, stray["id"])
    assert found is not None
    assert (found.parent, found.reference) == (None, None)
    assert await stage.effects(ObjectKind.PAYMENT, found.id) == [(EffectKind.PAYMENT_RECEIVED, 77)]
    an_object(await stage.gateway.refund(refund(found, 77)))


async def test_refunds_in_part_are_never_above_what_was_paid(stage: Stage) -> None:
    charge = await stage.paid_card()
    code_charge = an_object(await stage.gateway.charge(code()))
    payment = stage.fake.order("/customers/pay", charge=code_charge.id)
    of_code = await stage.gateway.fetch(ObjectKind.PAYMENT, payment["id"])
    assert of_code is not None
    for parent in (charge, of_code):
        answers = await asyncio.gather(*(stage.gateway.refund(refund(parent, 300)) for _ in range(10)))
        kinds = Counter(type(answer) for answer in answers)
        assert kinds == {GatewayObject: 3, GatewayRefusal: 7}
        an_object(await stage.gateway.refund(refund(parent, 100)))
    assert isinstance(await stage.gateway.refund(refund(code_charge, 1)), GatewayRefusal)


@pytest.mark.parametrize(
    ("faults", "failed", "returned"),
    [({}, False, False), ({"{}_fails": 1}, True, False), ({"{}_returned": 1}, False, True)],
)
async def test_refunds_and_payouts_are_decided_later_and_may_come_back(
    stage: Stage, faults: Mapping[str, float], *, failed: bool, returned: bool
) -> None:
    charge = await stage.paid_card()
    for kind in (ObjectKind.REFUND, ObjectKind.PAYOUT):
        stage.fake.have_faults(**{name.format(kind): chance for name, chance in faults.items()})
        send = (
            stage.gateway.payout(payout()) if kind is ObjectKind.PAYOUT else stage.gateway.refund(refund(charge, 700))
        )
        asked = an_object(await send)
        assert effects_of("g", asked) == []
        seen: list[list[tuple[EffectKind, int]]] = []
        for _ in range(2):
            stage.fake.advance(SETTLE_S)
            seen.append(await stage.effects(kind, asked.id))
        names = [EffectKind[f"{kind.name}_{end}"] for end in ("FAILED", "PAID", "RETURNED")]
        first = [(names[0], 0)] if failed else [(names[1], -700)]
        assert seen == [first, [*first, (names[2], 700)] if returned else first]


@pytest.mark.parametrize(
    ("won", "end"), [(True, (EffectKind.CHARGEBACK_WON, 900)), (False, (EffectKind.CHARGEBACK_LOST, 0))]
)
async def test_a_chargeback_takes_money_back_until_it_is_won(
    stage: Stage, end: tuple[EffectKind, int], *, won: bool
) -> None:
    charge = await stage.paid_card()
    opened = stage.fake.order("/customers/dispute", parent=charge.id, amount_minor=900)
    assert await stage.effects(ObjectKind.CHARGEBACK, opened["id"]) == [(EffectKind.CHARGEBACK_OPENED, -900)]
    assert await stage.gateway.refund(refund(charge, 100)) == GatewayRefusal("disputed")
    stage.fake.order("/customers/decide", object=opened["id"], won=won)
    assert await stage.effects(ObjectKind.CHARGEBACK, opened["id"]) == [(EffectKind.CHARGEBACK_OPENED, -900), end]
    found = await stage.gateway.fetch(ObjectKind.CHARGEBACK, opened["id"])
    assert found is not None
    assert found.parent == charge.id


async def test_the_pages_of_a_window_have_all_of_it_while_objects_are_added(stage: Stage) -> None:
    since_ms = (await stage.paid_card()).changed_at_ms
    inside = {an_object(await stage.gateway.charge(card())).id for _ in range(130)}
    stage.fake.advance(stage.gateway.settle_s)
    until_ms = (await stage.paid_card()).changed_at_ms
    page = await stage.gateway.list_changed(since_ms, until_ms)
    found = [each.id for each in page.objects]
    while page.next_page is not None:
        await stage.paid_card()
        page = await stage.gateway.list_changed(since_ms, until_ms, page.next_page)
        found += [each.id for each in page.objects]
    assert inside <= set(found)
    assert len(found) == len(set(found))


async def test_an_object_is_listed_again_in_the_window_of_its_next_change(stage: Stage) -> None:
    charge = await stage.paid_card()
    asked = an_object(await stage.gateway.refund(refund(charge, 100)))
    first = await stage.list_all(asked.changed_at_ms, asked.changed_at_ms + 1)
    assert asked in first
    stage.fake.advance(SETTLE_S)
    later = await stage.list_all(asked.changed_at_ms + 1, asked.changed_at_ms + 10**9)
    assert [each.status for each in later if each.id == asked.id] == [ObjectStatus.SUCCEEDED]


BODY = b'{"type":"charge.succeeded","data":{"kind":"charge","id":"ch_7","status":"succeeded","amount_minor":1}}'


def signed(body: bytes = BODY, *, at_s: int, secret: str = WEBHOOK_SECRET) -> dict[str, str]:
    return sign(secret, "msg_1", at_s, body)


@pytest.fixture
def at_s(clock: ManualClock) -> int:
    return clock.wall_ms() // 1000


async def test_a_genuine_webhook_is_a_hint_also_when_it_is_replayed(
    stage: Stage, clock: ManualClock, at_s: int
) -> None:
    gateway = stage.engine(clock=clock)
    for sent_s in (at_s, at_s, at_s - 300, at_s + 300):
        hint = gateway.read_webhook(signed(at_s=sent_s), BODY)
        assert hint == WebhookHint(ObjectKind.CHARGE, "ch_7")


async def test_a_webhook_of_something_else_is_no_hint_and_one_without_form_is_refused(
    stage: Stage, clock: ManualClock, at_s: int
) -> None:
    gateway = stage.engine(clock=clock)
    body = b'{"type":"balance.available","data":{"kind":"balance","id":"b_1"}}'
    assert gateway.read_webhook(signed(body, at_s=at_s), body) is None
    for body in (b"", b"{}", b'{"data":{"kind":"charge"}}', b"[" * 60_000, b"\xff"):
        with pytest.raises(WebhookRefusedError, match="genuine"):
            gateway.read_webhook(signed(body, at_s=at_s), body)


async def test_a_webhook_that_is_not_genuine_or_not_of_now_is_refused(
    stage: Stage, clock: ManualClock, at_s: int
) -> None:
    gateway = stage.engine(clock=clock)
    good = signed(at_s=at_s)
    long = b" " * 1_048_576 + BODY
    cases: list[tuple[dict[str, str], bytes, str]] = [
        ({}, BODY, "not signed"),
        ({**good, "webhook-signature": ""}, BODY, "not signed"),
        ({**good, "webhook-id": "m" * 1001}, BODY, "not signed"),
        ({**good, "webhook-signature": "v1,é"}, BODY, "signature"),
        ({**good, "webhook-signature": good["webhook-signature"].removeprefix("v1,")}, BODY, "signature"),
        (signed(at_s=at_s, secret=OTHER_SECRET), BODY, "signature"),
        (good, BODY.replace(b"ch_7", b"ch_8"), "signature"),
        ({**good, "webhook-id": "msg_2"}, BODY, "signature"),
        ({**good, "webhook-timestamp": str(at_s + 1)}, BODY, "signature"),
        (signed(at_s=at_s - 301), BODY, "five minutes"),
        (signed(at_s=at_s + 301), BODY, "five minutes"),
        (signed(long, at_s=at_s), long, "65536 bytes"),
    ]
    for headers, body, why in cases:
        with pytest.raises(WebhookRefusedError, match=why):
            gateway.read_webhook(headers, body)


async def test_one_of_several_signatures_is_enough(stage: Stage, clock: ManualClock, at_s: int) -> None:
    both = f"{signed(at_s=at_s, secret=OTHER_SECRET)['webhook-signature']} {signed(at_s=at_s)['webhook-signature']}"
    headers = {**signed(at_s=at_s), "webhook-signature": both}
    assert stage.engine(clock=clock).read_webhook(headers, BODY) is not None


async def test_every_engine_runs_here(fake: FakeGateway) -> None:
    modules = [import_module(found.name) for found in pkgutil.iter_modules(gateways.__path__, f"{gateways.__name__}.")]
    classes = {each for module in modules for _, each in getmembers(module, isclass) if Gateway in each.__mro__[1:]}
    assert classes == {type(Stage(fake, engine).gateway) for engine in ENGINES}
