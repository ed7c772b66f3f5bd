"""Payments over HTTP: who may take which step, and that repeats get the first answer."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from protocol.ids import new_id
from storage.commerce.api_key_store import Right
from tests.support.commerce_world import CommerceWorld, approval_of, refusal

pytestmark = pytest.mark.anyio


async def test_a_request_is_approved_as_it_was_seen_and_paid(commerce: CommerceWorld) -> None:
    ann, shop = await commerce.person(10_000), await commerce.person()
    asked = await shop.post("payments", shop.request(ann, 4_000))
    assert asked.status_code == 201, asked.text
    payment = asked.json()
    assert (payment["state"], payment["version"]) == ("requested", 1)
    assert await ann.balance() == 10_000
    path = f"payments/{payment['id']}"
    for changed in ({"version": 2}, {"amount_minor": 3_999}, {"payee": str(ann.id)}, {"currency": "USD"}):
        answer = await ann.post(f"{path}/approve", approval_of(payment, **changed))
        assert refusal(answer)[1] == "changed" if "currency" not in changed else "proof_required"
    paid = await ann.post(f"{path}/approve", approval_of(payment))
    assert paid.status_code == 200, paid.text
    assert (paid.json()["state"], paid.json()["version"], paid.json()["captured_minor"]) == ("paid", 2, 4_000)
    assert (await ann.balance(), await shop.balance()) == (6_000, 4_000)
    assert await ann.read(path) == paid.json()


async def test_who_requests_divides_what_is_paid_and_who_sends_does_not(commerce: CommerceWorld) -> None:
    ann, shop, rider = [await commerce.person(balance) for balance in (10_000, 0, 0)]
    shares = [{"payee": shop.id, "weight": 3}, {"payee": rider.id, "weight": 1}]
    payment = (await shop.post("payments", shop.request(ann, 4_001, shares=shares))).json()
    assert (await ann.post(f"payments/{payment['id']}/approve", approval_of(payment))).status_code == 200
    assert (await shop.balance(), await rider.balance()) == (3_001, 1_000)
    assert refusal(await ann.post("payments", ann.payment(shop, 1, shares=shares)))[1] == "not_allowed"
    assert refusal(await ann.post("payments", ann.payment(shop, 1, capture="later", shares=shares)))[1] == "not_allowed"
    for wrong in ([{"payee": shop.id, "weight": 0}], [{"payee": shop.id, "weight": 1}] * 17, [{"payee": shop.id}]):
        assert refusal(await shop.post("payments", shop.request(ann, 1, shares=wrong)))[0] == 400
    nobody = [{"payee": str(UUID(bytes=new_id())), "weight": 1}]
    assert refusal(await shop.post("payments", shop.request(ann, 1, shares=nobody)))[1] == "wallet_not_found"


async def test_a_send_is_captured_by_the_payee_and_refunded(commerce: CommerceWorld) -> None:
    ann, shop = await commerce.person(10_000), await commerce.person()
    held = (await ann.post("payments", ann.payment(shop, 4_000, capture="later"))).json()
    assert held["state"] == "held"
    path = f"payments/{held['id']}"
    assert refusal(await ann.post(f"{path}/capture")) == (403, "not_allowed")
    captured = (await shop.post(f"{path}/capture", {"amount_minor": 1_500})).json()
    assert (captured["state"], captured["captured_minor"]) == ("paid", 1_500)
    assert refusal(await shop.post(f"{path}/refund", {"amount_minor": 1_501})) == (400, "amount_refused")
    assert refusal(await ann.post(f"{path}/refund")) == (403, "not_allowed")
    refunded = (await shop.post(f"{path}/refund", {"amount_minor": 500})).json()
    assert (refunded["state"], refunded["refunded_minor"]) == ("refunded", 500)
    assert (await ann.balance(), await shop.balance()) == (9_000, 1_000)


async def test_a_request_is_declined_by_the_payer_and_cancelled_by_the_payee(commerce: CommerceWorld) -> None:
    ann, shop = await commerce.person(1_000), await commerce.person()
    one = (await shop.post("payments", shop.request(ann, 400))).json()["id"]
    other = (await shop.post("payments", shop.request(ann, 400))).json()["id"]
    assert refusal(await shop.post(f"payments/{one}/decline"))[1] == "not_allowed"
    assert refusal(await ann.post(f"payments/{other}/cancel"))[1] == "not_allowed"
    assert (await ann.post(f"payments/{one}/decline")).json()["state"] == "declined"
    assert (await shop.post(f"payments/{other}/cancel", {})).json()["state"] == "cancelled"
    held = (await ann.post("payments", ann.payment(shop, 400, capture="later"))).json()["id"]
    assert (await shop.post(f"payments/{held}/cancel")).json()["state"] == "cancelled"
    assert await ann.balance() == 1_000


async def test_a_repeated_key_gets_the_payment_as_it_is_now_and_moves_nothing(commerce: CommerceWorld) -> None:
    ann, shop = await commerce.person(10_000), await commerce.person()
    body = ann.payment(shop, 4_000)
    first, *others = await asyncio.gather(*(ann.post("payments", body, key="k") for _ in range(5)))
    assert {answer.json()["id"] for answer in others} == {first.json()["id"]}
    await shop.post(f"payments/{first.json()['id']}/refund")
    before = await commerce.moved()
    again = await ann.post("payments", {**body, "capture": "now", "dialog": None}, key="k")
    assert (again.status_code, again.json()["state"]) == (201, "refunded")
    assert await commerce.moved() == before


async def test_a_key_with_another_request_is_refused(commerce: CommerceWorld) -> None:
    ann, shop = await commerce.person(10_000), await commerce.person()
    await ann.post("payments", ann.payment(shop, 4_000), key="k")
    before = await commerce.moved()
    assert refusal(await ann.post("payments", ann.payment(shop, 4_001), key="k")) == (409, "key_reused")
    assert refusal(await ann.post("payments", ann.request(shop, 4_000), key="k")) == (409, "key_reused")
    assert (await shop.post("payments", shop.request(ann, 1), key="k")).status_code == 201
    assert await commerce.moved() == before


async def test_a_refusal_is_final_for_its_key(commerce: CommerceWorld) -> None:
    ann, shop = await commerce.person(100), await commerce.person()
    body = ann.payment(shop, 101)
    assert refusal(await ann.post("payments", body, key="k")) == (409, "insufficient")
    wallet = (await ann.read("wallets"))["wallets"][0]["id"]
    await commerce.fund(wallet, 1_000)
    assert refusal(await ann.post("payments", body, key="k")) == (409, "insufficient")
    assert (await ann.post("payments", body)).status_code == 201


async def test_above_a_bound_a_person_pays_only_with_a_signature_of_their_device(commerce: CommerceWorld) -> None:
    ann, shop = await commerce.person(2_000_000), await commerce.person()
    payment = (await shop.post("payments", shop.request(ann, 500_001))).json()
    path, seen = f"payments/{payment['id']}/approve", approval_of(payment)
    assert refusal(await ann.post(path, seen, key="k")) == (403, "proof_required")
    proven = ann.prove(payment["id"], seen)
    forged = shop.prove(payment["id"], seen)["proof"] | {"device": ann.device}
    elsewhere = ann.prove(str(UUID(bytes=new_id())), seen)
    for bad in ({**seen, "proof": forged}, elsewhere, {**seen, "proof": {"step_up": "x"}}):
        assert refusal(await ann.post(path, bad)) == (403, "proof_required")
    assert refusal(await ann.post(path, proven, device_key=None)) == (403, "proof_required")
    assert refusal(await ann.post(path, proven, key="k")) == (409, "key_reused")
    assert await shop.balance() == 0
    assert (await ann.post(path, proven)).json()["state"] == "paid"
    assert refusal(await ann.post("payments", ann.payment(shop, 500_001))) == (403, "proof_required")
    assert (await ann.post("payments", ann.payment(shop, 500_000))).status_code == 201


async def test_a_service_acts_for_its_businesses_and_approves_for_nobody(commerce: CommerceWorld) -> None:
    ann, shop, other = await commerce.person(10_000), await commerce.person(business=True), await commerce.person()
    service = await commerce.service(Right.PAYMENTS, shop)
    payment = (await service.post("payments", shop.request(ann, 4_000))).json()
    assert payment["payee"] == str(shop.id)
    path = f"payments/{payment['id']}"
    assert refusal(await service.post(f"{path}/approve", approval_of(payment))) == (403, "not_allowed")
    assert refusal(await service.post("payments", shop.payment(ann, 1))) == (403, "not_allowed")
    assert refusal(await service.post("payments", other.request(ann, 1))) == (404, "wallet_not_found")
    assert refusal(await service.post("wallets", {"currency": "THB", "owner": shop.id})) == (403, "not_allowed")
    await ann.post(f"{path}/approve", approval_of(payment))
    assert (await service.read(path))["state"] == "paid"
    assert (await service.post(f"{path}/refund")).json()["state"] == "refunded"
    reader = await commerce.service(Right(0), shop)
    assert (await reader.read(path))["state"] == "refunded"
    assert refusal(await reader.post(f"{path}/refund")) == (403, "not_allowed")
    assert refusal(await (await commerce.service(Right.PAYMENTS)).ask("GET", f"/v1/{path}"))[1] == "payment_not_found"


async def test_strangers_learn_nothing(commerce: CommerceWorld) -> None:
    ann, shop, eve = [await commerce.person(1_000) for _ in range(3)]
    payment = (await shop.post("payments", shop.request(ann, 400))).json()
    path, before = f"payments/{payment['id']}", await commerce.moved()
    wallet = (await ann.read("wallets"))["wallets"][0]["id"]
    asked = [
        await eve.ask("GET", f"/v1/{path}"),
        await eve.post(f"{path}/approve", approval_of(payment)),
        await eve.post(f"{path}/decline"),
        await eve.post(f"{path}/cancel"),
        await eve.post(f"{path}/capture"),
        await eve.post(f"{path}/refund"),
    ]
    assert {refusal(answer) for answer in asked} == {(404, "payment_not_found")}
    foreign = [
        await eve.post("payments", ann.payment(eve, 1)),
        await eve.post("payments", shop.request(ann, 1)),
        await eve.ask("GET", f"/v1/wallets?owner={ann.id}"),
        await eve.ask("GET", f"/v1/wallets/{wallet}/statement"),
        await eve.ask("GET", f"/v1/payments?party={ann.id}"),
        await eve.post("wallets", {"currency": "THB", "owner": ann.id}),
    ]
    assert {refusal(answer) for answer in foreign} == {(404, "wallet_not_found")}
    assert await commerce.moved() == before


async def test_only_the_payee_sees_the_fee(commerce: CommerceWorld) -> None:
    ann, shop = await commerce.person(10_000), await commerce.person()
    rule = {"currency": "THB", "basis_points": 250, "fixed_minor": 3, "owner": shop.id}
    assert (await commerce.admin.post("fee-rules", rule)).status_code == 204
    payment = (await ann.post("payments", ann.payment(shop, 4_000))).json()
    assert "fee_minor" not in payment
    assert (await shop.read(f"payments/{payment['id']}"))["fee_minor"] == 103
    assert await shop.balance() == 3_897


async def test_payments_come_in_pages_and_those_that_are_due_are_expired_first(commerce: CommerceWorld) -> None:
    ann, shop = await commerce.person(1_000), await commerce.person()
    ids = [(await shop.post("payments", shop.request(ann, 1, expires_in_s=60))).json()["id"] for _ in range(5)]
    first = (await ann.read("payments?limit=3"))["payments"]
    rest = (await ann.read(f"payments?limit=3&before={first[-1]['id']}"))["payments"]
    assert [each["id"] for each in first + rest] == ids[::-1]
    assert {each["state"] for each in first} == {"requested"}
    await commerce.database.execute("UPDATE payments SET expires_us = 1")
    assert {each["state"] for each in (await ann.read("payments"))["payments"]} == {"expired"}
    assert refusal(await ann.post(f"payments/{ids[0]}/decline")) == (409, "payment_expired")


async def test_a_wallet_that_is_suspended_takes_no_part(commerce: CommerceWorld) -> None:
    ann, shop = await commerce.person(1_000), await commerce.person()
    await commerce.database.execute("UPDATE accounts SET status = 2 WHERE owner_id = $1", shop.id)
    assert refusal(await ann.post("payments", ann.payment(shop, 400))) == (409, "wallet_closed")
    assert await ann.balance() == 1_000
