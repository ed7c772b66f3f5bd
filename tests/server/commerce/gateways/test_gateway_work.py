"""Money over a gateway, from the request of a person to the books of both sides, whatever is lost on the way."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from protocol.commerce.contract import withdrawal_text
from server.commerce.gateways.gateway_objects import GatewayObject, ObjectKind
from server.commerce.gateways.sealed_webhooks import open_body
from server.webhooks.posting import sign
from storage.commerce.api_key_store import Right
from tests.support.commerce_world import SECRET, Party, approval_of, refusal
from tests.support.fake_gateway.process import WEBHOOK_SECRET, FakeGateway
from tests.support.gateway_world import KEY_WINDOW_S, NAME, GatewayWorld, opened_gateway_world

pytestmark = pytest.mark.anyio

CARD = {"currency": "THB", "method": "card", "source": "tok_visa"}
CODE = {"currency": "THB", "method": "promptpay"}
BANK = {"amount_minor": 200, "currency": "THB", "destination": "acct_1"}


@pytest.fixture
async def gateway(money_url: str, tmp_path: Path) -> AsyncIterator[GatewayWorld]:
    """The service with a gateway whose book is empty."""
    with FakeGateway(tmp_path / "gateway", {"settle-s": "0.5", "key-window-s": str(KEY_WINDOW_S + 60)}) as fake:
        async with opened_gateway_world(money_url, fake) as opened:
            yield opened


async def top_up(who: Party, amount: int, **fields: Any) -> Any:
    return await who.post("topups", {"amount_minor": amount, **(fields or CARD)})


async def agree(gateway: GatewayWorld) -> None:
    """Both books say the same, once all that happened is read."""
    await gateway.advance(3)
    await gateway.work()
    await gateway.work()
    assert await gateway.owed() == gateway.booked()


async def test_a_card_tops_up_a_wallet(gateway: GatewayWorld) -> None:
    ann = await gateway.world.person()
    answer = await top_up(ann, 50_000)
    assert (answer.json()["state"], await ann.balance()) == ("written", 0)
    ended = await gateway.end(ann, answer)
    assert (ended["state"], await ann.balance()) == ("paid", 50_000)
    assert [each["id"] for each in (await ann.read("topups"))["intents"]] == [ended["id"]]
    await agree(gateway)


async def test_a_card_that_is_declined_moves_nothing(gateway: GatewayWorld) -> None:
    gateway.fake.have_faults(card_declined=1.0)
    ann = await gateway.world.person()
    assert (await gateway.end(ann, await top_up(ann, 50_000)))["state"] == "failed"
    await agree(gateway)
    assert await ann.balance() == 0


@pytest.mark.parametrize("fault", ["call_times_out", "call_cut", "call_500", "call_lost", "call_limited", "call_late"])
async def test_a_call_whose_answer_is_lost_charges_once(gateway: GatewayWorld, fault: str) -> None:
    gateway.fake.have_faults(**{fault: 1.0})
    ann = await gateway.world.person()
    answer = await top_up(ann, 50_000)
    await gateway.work()
    gateway.fake.have_faults()
    assert (await gateway.end(ann, answer))["state"] == "paid"
    await agree(gateway)
    assert (await ann.balance(), gateway.booked()) == (50_000, 50_000)


@pytest.mark.parametrize(("fault", "state"), [("call_cut", "paid"), ("call_lost", "failed")])
async def test_past_the_key_window_nothing_is_charged_again(gateway: GatewayWorld, fault: str, state: str) -> None:
    gateway.fake.have_faults(**{fault: 1.0})
    ann = await gateway.world.person()
    answer = await top_up(ann, 50_000)
    await gateway.call()
    await gateway.advance(KEY_WINDOW_S + 120)
    gateway.fake.have_faults(read_500=1.0)
    await gateway.work_until(lambda found: found["state"] == "unknown", ann, f"topups/{answer.json()['id']}")
    gateway.fake.have_faults()
    await gateway.advance(60)
    assert (await gateway.end(ann, answer))["state"] == state
    assert len(gateway.fake.read_book()["objects"]) == (state == "paid")


async def test_a_code_is_shown_and_its_payment_is_found_without_webhooks(gateway: GatewayWorld) -> None:
    ann = await gateway.world.person()
    answer = await top_up(ann, 50_000, **CODE)
    shown = await gateway.work_until(lambda found: "qr" in found, ann, f"topups/{answer.json()['id']}")
    assert shown["state"] == "pending"
    (charge,) = gateway.fake.read_book()["objects"]
    gateway.fake.order("/customers/pay", charge=charge["id"])
    assert (await gateway.end(ann, answer))["state"] == "paid"
    assert await ann.balance() == 50_000


async def test_a_code_that_is_paid_after_a_clock_was_ahead_is_found_without_webhooks(gateway: GatewayWorld) -> None:
    ann = await gateway.world.person()
    answer = await top_up(ann, 50_000, **CODE)
    await gateway.work_until(lambda found: "qr" in found, ann, f"topups/{answer.json()['id']}")
    gateway.clock.ahead_s += 1800
    await gateway.work()
    gateway.clock.ahead_s -= 1800
    (charge,) = gateway.fake.read_book()["objects"]
    gateway.fake.order("/customers/pay", charge=charge["id"])
    assert (await gateway.end(ann, answer))["state"] == "paid"
    await agree(gateway)


async def test_a_genuine_webhook_has_its_object_fetched_and_its_own_amount_is_not_believed(
    gateway: GatewayWorld,
) -> None:
    ann = await gateway.world.person()
    answer = await top_up(ann, 50_000, **CODE)
    await gateway.work()
    (charge,) = gateway.fake.read_book()["objects"]
    paid = gateway.fake.order("/customers/pay", charge=charge["id"])
    for genuine, status in ((False, 403), (True, 204)):
        assert await post_event(gateway, {**paid, "amount_minor": 99_000_000}, genuine=genuine) == status
    await gateway.work()
    assert (await ann.read(f"topups/{answer.json()['id']}"))["state"] == "paid"
    assert await ann.balance() == 50_000
    ((_, sealed),) = await gateway.world.commerce.intents.read_webhooks(NAME, 10)
    assert b"99000000" not in sealed
    assert b"99000000" in open_body(SECRET, NAME, sealed)


async def post_event(gateway: GatewayWorld, data: dict[str, Any], *, genuine: bool = True, name: str = NAME) -> int:
    """The status of a webhook about an object."""
    body = json.dumps({"type": "payment.succeeded", "data": data}).encode()
    secret = WEBHOOK_SECRET if genuine else "whsec_" + "QUJD" * 12
    headers = sign(secret, "msg_1", gateway.clock.wall_ms() // 1000, body)
    return await gateway.world.post_raw(f"/v1/gateways/{name}/events", headers, body)


async def test_webhooks_of_unknown_gateways_and_long_ones_are_refused(gateway: GatewayWorld) -> None:
    assert await post_event(gateway, {"kind": "charge", "id": "ch_1"}, name="other") == 409
    assert await post_event(gateway, {"kind": "charge", "id": "ch_1", "more": "x" * 1_000_000}) == 413
    assert await gateway.world.database.fetchval("SELECT count(*) FROM gateway_hints") == 0


async def test_a_card_pays_a_request_and_is_refunded(gateway: GatewayWorld) -> None:
    world = gateway.world
    ann, shop = await world.person(), await world.person()
    asked = (await shop.post("payments", shop.request(ann, 40_000))).json()
    fields = {**CARD, "payment": asked["id"], "approval": approval_of(asked)}
    ended = await gateway.end(ann, await top_up(ann, 40_000, **fields))
    assert ended["pays_payment"]
    assert (await ann.balance(), await shop.balance()) == (0, 40_000)
    refunded = await shop.post(f"payments/{asked['id']}/refund", {"to": "source", "amount_minor": 15_000})
    assert refunded.json()["state"] == "refunding"
    path = f"payments/{asked['id']}"
    found = await gateway.work_until(lambda found: found["state"] != "refunding", ann, path)
    assert (found["state"], found["refunded_minor"], await shop.balance()) == ("refunded", 15_000, 25_000)
    await agree(gateway)
    assert gateway.booked() == 25_000


async def test_a_refund_that_the_gateway_refuses_has_failed(gateway: GatewayWorld) -> None:
    world = gateway.world
    ann, shop = await world.person(), await world.person()
    asked = (await shop.post("payments", shop.request(ann, 40_000))).json()
    fields = {**CARD, "payment": asked["id"], "approval": approval_of(asked)}
    await gateway.end(ann, await top_up(ann, 40_000, **fields))
    gateway.fake.have_faults(refund_fails=1.0)
    await shop.post(f"payments/{asked['id']}/refund", {"to": "source"})
    path = f"payments/{asked['id']}"
    found = await gateway.work_until(lambda found: found["state"] != "refunding", ann, path)
    assert (found["state"], await shop.balance()) == ("refund_failed", 40_000)


async def test_what_needs_a_proof_is_charged_for_a_request_only_with_one(gateway: GatewayWorld) -> None:
    world = gateway.world
    ann, shop = await world.person(), await world.person()
    asked = (await shop.post("payments", shop.request(ann, 600_000))).json()
    seen = approval_of(asked)
    fields = {**CARD, "payment": asked["id"], "approval": seen}
    assert refusal(await top_up(ann, 600_000, **fields)) == (403, "proof_required")
    fields["approval"] = ann.prove(asked["id"], seen)
    assert (await gateway.end(ann, await top_up(ann, 600_000, **fields)))["pays_payment"]


@pytest.mark.parametrize(("faults", "state", "left"), [({}, "paid", 300), ({"payout_fails": 1.0}, "failed", 1_000)])
async def test_a_withdrawal_is_paid_or_returns(
    gateway: GatewayWorld, faults: dict[str, float], state: str, left: int
) -> None:
    gateway.fake.have_faults(**faults)
    ann = await gateway.world.person(1_000)
    answer = await ann.post("withdrawals", {"amount_minor": 700, "currency": "THB", "destination": "acct_1"})
    assert await ann.balance() == 300
    assert (await gateway.end(ann, answer, "withdrawals"))["state"] == state
    assert await ann.balance() == left
    await agree(gateway)


async def test_withdrawals_are_refused_that_are_large_anothers_or_of_no_gateway(gateway: GatewayWorld) -> None:
    world = gateway.world
    ann, bob = await world.person(10_000_000, "THB", "IDR"), await world.person(1_000)
    before = await world.moved()
    for fields, refused in (
        ({"amount_minor": 500_001}, (403, "proof_required")),
        ({"amount_minor": 100, "owner": bob.id}, (404, "wallet_not_found")),
        ({"amount_minor": 100, "currency": "IDR"}, (409, "gateway_refused")),
    ):
        given = {"currency": "THB", "destination": "acct_1", **fields}
        assert refusal(await ann.post("withdrawals", given)) == refused
    assert await world.moved() == before


async def test_a_large_withdrawal_is_proven_by_a_signature_over_its_fields_and_its_key(gateway: GatewayWorld) -> None:
    ann = await gateway.world.person(10_000_000)
    given = {"amount_minor": 600_000, "currency": "THB", "destination": "acct_1"}
    proof = ann.sign_text(withdrawal_text("k1", ann.id, 600_000, "THB", "acct_1"))
    for key, changed in (("k2", {}), ("k3", {"destination": "acct_2"}), ("k4", {"amount_minor": 600_001})):
        assert refusal(await ann.post("withdrawals", given | changed | {"proof": proof}, key=key)) == (
            403,
            "proof_required",
        )
    answer = await ann.post("withdrawals", given | {"proof": proof}, key="k1")
    assert (await gateway.end(ann, answer, "withdrawals"))["state"] == "paid"


async def test_a_service_withdraws_for_its_business_and_charges_nobody(gateway: GatewayWorld) -> None:
    world = gateway.world
    shop = await world.person(1_000_000, business=True)
    till, service = await world.service(Right.PAYMENTS, shop), await world.service(Right.PAYOUTS, shop)
    given = {"amount_minor": 900_000, "currency": "THB", "destination": "acct_1", "owner": shop.id}
    assert refusal(await till.post("withdrawals", given)) == (403, "not_allowed")
    answer = await service.post("withdrawals", given)
    assert (await gateway.end(service, answer, "withdrawals"))["state"] == "paid"
    assert refusal(await top_up(service, 100)) == (403, "not_allowed")


async def test_what_a_wallet_paid_is_not_refunded_to_a_card(gateway: GatewayWorld) -> None:
    ann, shop = await gateway.world.person(1_000), await gateway.world.person()
    sent = (await ann.post("payments", ann.payment(shop, 400))).json()
    answer = await shop.post(f"payments/{sent['id']}/refund", {"to": "source"})
    assert refusal(answer) == (409, "source_refused")
    assert (await shop.read(f"payments/{sent['id']}"))["state"] == "paid"


async def test_forms_that_fit_no_top_up_are_refused(gateway: GatewayWorld) -> None:
    ann = await gateway.world.person()
    for fields in ({"currency": "THB", "method": "card"}, {**CODE, "source": "tok_visa"}, {**CARD, "payment": ann.id}):
        assert refusal(await top_up(ann, 100, **fields)) == (400, "invalid_argument")
    assert refusal(await top_up(ann, 100, currency="THB", method="qris")) == (409, "gateway_refused")


async def test_the_intents_of_others_are_not_found(gateway: GatewayWorld) -> None:
    ann, bob = await gateway.world.person(), await gateway.world.person()
    intent = (await top_up(ann, 100)).json()["id"]
    for who, path in ((bob, f"topups/{intent}"), (ann, f"withdrawals/{intent}")):
        assert refusal(await who.ask("GET", f"/v1/{path}")) == (404, "intent_not_found")


async def test_stray_money_is_in_suspense_until_an_admin_gives_it_away(gateway: GatewayWorld) -> None:
    world = gateway.world
    ann = await world.person()
    gateway.fake.order("/customers/stray", amount_minor=700, currency="THB")
    await agree(gateway)
    (item,) = (await world.admin.read("suspense"))["items"]
    assert (item["amount_minor"], item["effect"]) == (700, "payment_received")
    (wallet,) = (await ann.read("wallets"))["wallets"]
    path = f"suspense/{item['item']}/release"
    assert refusal(await ann.post(path, {"wallet": wallet["id"]})) == (403, "not_allowed")
    for number in (10**18, 10**19):
        answer = await world.admin.post(f"suspense/{number}/release", {"wallet": wallet["id"]})
        assert refusal(answer) == (404, "intent_not_found")
    assert (await world.admin.post(path, {"wallet": wallet["id"]})).status_code == 204
    assert refusal(await world.admin.post(path, {"wallet": wallet["id"]})) == (404, "intent_not_found")
    assert await ann.balance() == 700
    assert (await world.admin.read("reconciliation"))["oldest_suspense_at_ms"] is None


async def test_a_chargeback_that_is_read_before_its_charge_is_the_topped_up_wallets(gateway: GatewayWorld) -> None:
    ann = await gateway.world.person()
    gateway.fake.have_faults(call_cut=1.0)
    answer = await top_up(ann, 50_000)
    await gateway.call()
    (charge,) = gateway.fake.read_book()["objects"]
    taken = gateway.fake.order("/customers/dispute", parent=charge["id"])
    assert await post_event(gateway, taken) == 204
    await gateway.work()
    assert (await ann.balance(), await gateway.owed()) == (0, 0)
    gateway.fake.have_faults()
    assert (await gateway.end(ann, answer))["state"] == "paid"
    await agree(gateway)


async def test_a_payment_whose_charge_cannot_be_read_yet_waits_for_it(
    gateway: GatewayWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = await gateway.world.person()
    answer = await top_up(ann, 50_000, **CODE)
    await gateway.call()
    (charge,) = gateway.fake.read_book()["objects"]
    fetch = gateway.engine.fetch

    async def lagging(kind: ObjectKind, object_id: str) -> GatewayObject | None:
        return None if object_id == charge["id"] else await fetch(kind, object_id)

    monkeypatch.setattr(gateway.engine, "fetch", lagging)
    paid = gateway.fake.order("/customers/pay", charge=charge["id"])
    assert await post_event(gateway, paid) == 204
    await gateway.work()
    monkeypatch.undo()
    await gateway.advance(20)
    assert (await gateway.end(ann, answer))["state"] == "paid"
    assert (await gateway.world.admin.read("suspense"))["items"] == []


async def test_a_charge_whose_end_was_not_read_is_asked_for(gateway: GatewayWorld) -> None:
    ann = await gateway.world.person()
    gateway.fake.have_faults(webhook_lost=1.0, card_pending=1.0)
    answer = await top_up(ann, 50_000)
    await gateway.call()
    assert (await ann.read(f"topups/{answer.json()['id']}"))["state"] == "pending"
    await gateway.advance(3_700)
    await gateway.call()
    assert ((await ann.read(f"topups/{answer.json()['id']}"))["state"], await ann.balance()) == ("paid", 50_000)


async def test_a_gateway_that_is_away_is_asked_later(gateway: GatewayWorld) -> None:
    ann = await gateway.world.person()
    gateway.fake.kill()
    answer = await top_up(ann, 50_000)
    await gateway.work()
    assert (await ann.read(f"topups/{answer.json()['id']}"))["state"] == "written"
    gateway.fake.start()
    assert (await gateway.end(ann, answer))["state"] == "paid"
    await agree(gateway)


async def test_reconciliation_says_what_is_open_and_since_when(gateway: GatewayWorld) -> None:
    ann = await gateway.world.person()
    answer = await top_up(ann, 50_000, **CODE)
    found = await gateway.world.admin.read("reconciliation")
    (progress,) = found["gateways"]
    assert (progress["open_intents"], progress["unknown_intents"]) == (1, 0)
    assert progress["oldest_open_at_ms"] == answer.json()["created_at_ms"]
    assert refusal(await ann.ask("GET", "/v1/reconciliation")) == (403, "not_allowed")


async def test_an_export_has_top_ups_and_withdrawals(gateway: GatewayWorld) -> None:
    ann = await gateway.world.person(500)
    asked = {"top_ups": await top_up(ann, 50_000), "withdrawals": await ann.post("withdrawals", BANK)}
    export = (await ann.post("exports")).json()["id"]
    while await gateway.world.commerce.personal.upkeep.step():
        pass
    made = (await ann.read(f"exports/{export}"))["parts"]
    parts = [await ann.read(f"exports/{export}/parts/{part}") for part in range(made)]
    for source, answer in asked.items():
        (part,) = [each for each in parts if each["source"] == source]
        assert [row["id"] for row in part["rows"]] == [answer.json()["id"]]
