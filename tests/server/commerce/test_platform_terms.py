"""What an admin sets: wallets, limits, fees, rates; each step is audited, and nobody else may."""

from __future__ import annotations

from typing import Any

import pytest

from storage.commerce.api_key_store import Right
from tests.support.commerce_world import CommerceWorld, refusal

pytestmark = pytest.mark.anyio


async def test_a_person_opens_their_own_wallet_once(commerce: CommerceWorld) -> None:
    ann, eve = await commerce.person(100), await commerce.person()
    one = (await ann.post("wallets", {"currency": "IDR"}, key="k")).json()
    assert (await ann.post("wallets", {"currency": "IDR"})).json() == one
    assert refusal(await ann.post("wallets", {"currency": "USD"}, key="k")) == (409, "key_reused")
    assert refusal(await ann.post("wallets", {"currency": "ZZZ"})) == (400, "currency_refused")
    assert refusal(await ann.post("wallets", {"currency": "USD", "business": True})) == (403, "not_allowed")
    assert refusal(await eve.post("wallets", {"currency": "USD", "owner": ann.id})) == (404, "wallet_not_found")
    assert [each["currency"] for each in (await ann.read("wallets"))["wallets"]] == ["IDR", "THB"]


async def test_what_is_held_is_not_in_the_balance(commerce: CommerceWorld) -> None:
    ann, shop = await commerce.person(1_000), await commerce.person()
    await ann.post("payments", ann.payment(shop, 400, capture="later"))
    (wallet,) = (await ann.read("wallets"))["wallets"]
    assert (wallet["balance_minor"], wallet["held_minor"], wallet["debt_minor"]) == (600, 400, 0)


async def test_limits_hold_for_a_person_over_all_currencies(commerce: CommerceWorld) -> None:
    ann, shop = await commerce.person(10_000, "THB", "IDR"), await commerce.person(0, "THB", "IDR")
    limits = {"person": ann.id, "timezone": "Asia/Jakarta", "day_max_minor": 5_000, "month_max_minor": None}
    assert (await commerce.admin.post("limits", limits)).status_code == 204
    (idr,) = [each["id"] for each in (await ann.read("wallets"))["wallets"] if each["currency"] == "IDR"]
    await commerce.fund(idr, 10_000_000, "IDR")
    await commerce.admin.post("rates", {"sell_currency": "IDR", "rate": "0.0025"})
    assert (await ann.post("payments", ann.payment(shop, 4_000))).status_code == 201
    too_much = ann.payment(shop, 400_400, currency="IDR")
    assert refusal(await ann.post("payments", too_much)) == (409, "over_limit")
    assert (await ann.post("payments", ann.payment(shop, 400_000, currency="IDR"))).status_code == 201


IMPOSSIBLE: list[tuple[str, dict[str, Any], tuple[int, str]]] = [
    ("limits", {"timezone": "Mars/Base"}, (400, "invalid_argument")),
    ("limits", {"day_max_minor": -1}, (400, "invalid_argument")),
    ("limits", {"person": "00000000-0000-7000-8000-000000000001"}, (404, "wallet_not_found")),
    ("rates", {"rate": "0.0"}, (400, "invalid_argument")),
    ("rates", {"rate": "1e3"}, (400, "invalid_argument")),
    ("rates", {"sell_currency": "ZZZ"}, (400, "currency_refused")),
    ("rates", {"sell_currency": "THB"}, (400, "invalid_argument")),
    ("fee-rules", {"basis_points": 10_001}, (400, "invalid_argument")),
    ("fee-rules", {"currency": "ZZZ"}, (400, "currency_refused")),
]


async def test_terms_that_cannot_be_are_refused(commerce: CommerceWorld) -> None:
    ann = await commerce.person()
    possible: dict[str, dict[str, Any]] = {
        "limits": {"person": ann.id, "timezone": "UTC", "day_max_minor": 1, "month_max_minor": 1},
        "rates": {"sell_currency": "IDR", "rate": "2"},
        "fee-rules": {"currency": "THB", "basis_points": 1},
    }
    for path, body, refused in IMPOSSIBLE:
        assert refusal(await commerce.admin.post(path, possible[path] | body)) == refused, body
        assert (await commerce.admin.post(path, possible[path])).status_code == 204


async def test_terms_are_for_admins_and_audited(commerce: CommerceWorld) -> None:
    ann, other = await commerce.person(), await commerce.service(Right.PAYMENTS | Right.TRANSFERS)
    rule = {"currency": "THB", "basis_points": 250}
    assert refusal(await ann.post("fee-rules", rule)) == (403, "not_allowed")
    assert refusal(await other.post("fee-rules", rule)) == (403, "not_allowed")
    await commerce.admin.post("fee-rules", rule, key="k")
    await commerce.admin.post("fee-rules", rule, key="k")
    actions = await commerce.database.fetch("SELECT detail FROM audit WHERE action = 'set_fee_rule'")
    assert [row[0] for row in actions] == ["THB 250 0"]


async def test_a_key_that_is_made_again_ends_the_old_one_and_keeps_its_answers(commerce: CommerceWorld) -> None:
    ann, shop = await commerce.person(1_000), await commerce.person(business=True)
    old = await commerce.service(Right.PAYMENTS, shop, name="till")
    payment = (await old.post("payments", shop.request(ann, 400), key="k")).json()
    new = await commerce.service(Right.PAYMENTS, shop, name="till")
    assert refusal(await old.ask("GET", f"/v1/payments/{payment['id']}")) == (401, "token_invalid")
    assert (await new.post("payments", shop.request(ann, 400), key="k")).json() == payment
