"""Chains of services are all or nothing, and an exchange uses its quote once."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from protocol.ids import NIL, new_id
from storage.commerce.api_key_store import Right
from tests.support.commerce_world import CommerceWorld, Party, refusal

pytestmark = pytest.mark.anyio


async def wallet_of(who: Party, currency: str = "THB") -> str:
    (found,) = [each["id"] for each in (await who.read("wallets"))["wallets"] if each["currency"] == currency]
    return str(found)


def leg(payer: str, payee: str, amount: int, **more: Any) -> dict[str, Any]:
    return {"from_wallet": payer, "to_wallet": payee, "amount_minor": amount, **more}


async def test_a_chain_is_posted_as_a_whole_or_not_at_all(commerce: CommerceWorld) -> None:
    shop, one, two = await commerce.person(1_000, business=True), await commerce.person(), await commerce.person()
    service = await commerce.service(Right.TRANSFERS, shop, one)
    a, b, c = [await wallet_of(each) for each in (shop, one, two)]
    posted = await service.post("transfers", {"legs": [leg(a, b, 600), leg(b, c, 500)]})
    assert posted.status_code == 201, posted.text
    assert [await each.balance() for each in (shop, one, two)] == [400, 100, 500]
    lines = (await one.read(f"wallets/{b}/statement"))["lines"]
    assert [(each["amount_minor"], each["reason"], each["about"]) for each in lines] == [
        (-500, "transfer", posted.json()["id"]),
        (600, "transfer", posted.json()["id"]),
    ]
    before = await commerce.moved()
    fails_at_50 = [leg(a, b, 1)] * 49 + [leg(a, b, 1_000)] + [leg(a, b, 1)] * 50
    answer = await service.post("transfers", {"legs": fails_at_50})
    assert refusal(answer) == (409, "insufficient")
    assert "leg 50" in answer.json()["message"]
    assert await commerce.moved() == before
    assert (await service.post("transfers", {"legs": [leg(a, b, 1)] * 100})).status_code == 201


@pytest.mark.parametrize("count", [0, 101])
async def test_a_chain_has_1_to_100_legs(commerce: CommerceWorld, count: int) -> None:
    a, b = [await wallet_of(await commerce.person(1_000)) for _ in range(2)]
    before = await commerce.moved()
    answer = await commerce.admin.post("transfers", {"legs": [leg(a, b, 1)] * count})
    assert refusal(answer) == (400, "invalid_argument")
    assert await commerce.moved() == before


async def test_a_service_takes_only_from_its_businesses(commerce: CommerceWorld) -> None:
    shop, ann = await commerce.person(1_000, business=True), await commerce.person(1_000)
    service = await commerce.service(Right.TRANSFERS, shop)
    a, b = await wallet_of(shop), await wallet_of(ann)
    opening = (await commerce.admin.read(f"wallets?owner={UUID(bytes=NIL)}"))["wallets"][0]["id"]
    before = await commerce.moved()
    for taken in (b, opening, str(UUID(bytes=new_id()))):
        answer = await service.post("transfers", {"legs": [leg(a, b, 1), leg(taken, a, 1)]})
        assert refusal(answer) == (404, "wallet_not_found")
    assert refusal(await ann.post("transfers", {"legs": [leg(b, a, 1)]})) == (403, "not_allowed")
    payments = await commerce.service(Right.PAYMENTS, shop)
    assert refusal(await payments.post("transfers", {"legs": [leg(a, b, 1)]})) == (403, "not_allowed")
    assert await commerce.moved() == before


async def test_a_chain_of_two_currencies_or_to_itself_is_refused(commerce: CommerceWorld) -> None:
    shop = await commerce.person(1_000, "THB", "IDR")
    a, b = await wallet_of(shop), await wallet_of(shop, "IDR")
    before = await commerce.moved()
    assert refusal(await commerce.admin.post("transfers", {"legs": [leg(a, b, 1)]})) == (400, "currency_refused")
    assert refusal(await commerce.admin.post("transfers", {"legs": [leg(a, a, 1)]})) == (400, "own_payee")
    assert await commerce.moved() == before


async def test_reversals_never_sum_above_the_original(commerce: CommerceWorld) -> None:
    shop, ann = await commerce.person(1_000), await commerce.person()
    a, b = await wallet_of(shop), await wallet_of(ann)
    await commerce.admin.post("transfers", {"legs": [leg(a, b, 100)]})
    number = (await ann.read(f"wallets/{b}/statement?limit=1"))["lines"][0]["number"]
    await commerce.fund(b, 1_000)
    assert (await commerce.admin.post("transfers", {"legs": [leg(b, a, 60, reverses=number)]})).status_code == 201
    answer = await commerce.admin.post("transfers", {"legs": [leg(b, a, 41, reverses=number)]})
    assert refusal(answer) == (400, "amount_refused")
    assert await ann.balance() == 1_040
    line = (await ann.read(f"wallets/{b}/statement?limit=1"))["lines"][0]
    assert (line["reason"], line["reverses"], line["amount_minor"]) == ("reversal", number, -60)


async def test_an_exchange_uses_its_quote_once(commerce: CommerceWorld) -> None:
    ann, eve = await commerce.person(10_000, "THB", "IDR"), await commerce.person(10_000, "THB", "IDR")
    wanted = {"sell_currency": "THB", "sell_amount_minor": 333, "buy_currency": "IDR"}
    assert refusal(await ann.post("quotes", wanted)) == (400, "currency_refused")
    rate = {"sell_currency": "THB", "buy_currency": "IDR", "rate": "455.5"}
    assert (await commerce.admin.post("rates", rate)).status_code == 204
    quote = (await ann.post("quotes", wanted)).json()
    assert (quote["buy_amount_minor"], quote["used"]) == (151_681, False)
    before = await commerce.moved()
    assert refusal(await eve.post(f"quotes/{quote['id']}/exchange")) == (409, "quote_refused")
    assert refusal(await eve.post("quotes", {**wanted, "owner": ann.id})) == (404, "wallet_not_found")
    assert await commerce.moved() == before
    assert (await ann.post(f"quotes/{quote['id']}/exchange", key="k")).json()["used"] is True
    assert (await ann.post(f"quotes/{quote['id']}/exchange", key="k")).json()["used"] is True
    assert refusal(await ann.post(f"quotes/{quote['id']}/exchange")) == (409, "quote_refused")
    assert (await ann.balance(), await ann.balance("IDR")) == (9_667, 151_681)


async def test_a_quote_that_expired_is_refused(commerce: CommerceWorld) -> None:
    ann = await commerce.person(10_000, "THB", "IDR")
    await commerce.admin.post("rates", {"sell_currency": "THB", "buy_currency": "IDR", "rate": "455"})
    wanted = {"sell_currency": "THB", "sell_amount_minor": 1, "buy_currency": "IDR"}
    quote = (await ann.post("quotes", wanted)).json()
    await commerce.database.execute("UPDATE quotes SET expires_us = 1")
    assert refusal(await ann.post(f"quotes/{quote['id']}/exchange")) == (409, "quote_refused")
