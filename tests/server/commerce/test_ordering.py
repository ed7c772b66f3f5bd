"""Orders over HTTP: placed, paid, shipped, cancelled, and by whom."""

from __future__ import annotations

import pytest

from tests.support.commerce_world import CommerceWorld, refusal
from tests.support.open_shop import OpenShop

pytestmark = pytest.mark.anyio


async def test_an_order_is_placed_paid_shipped_and_delivered(commerce: CommerceWorld) -> None:
    shop, ann = await OpenShop.open(commerce), await commerce.person(10_000)
    soup = await shop.sell(250, 10, tax_basis_points=700)
    order = await shop.buy(ann, soup, 3, capture="later")
    assert (order["state"], order["number"], order["total_minor"]) == ("pending", 1, 803)
    await shop.pay(ann, order)
    assert (await ann.read(f"orders/{order['id']}"))["state"] == "confirmed"
    assert await shop.business.balance() == 0
    path = f"orders/{order['id']}"
    for step, state in (("process", "processing"), ("ship", "shipped"), ("deliver", "delivered")):
        answer = await shop.owner.post(f"{path}/{step}")
        assert (answer.status_code, answer.json()["state"]) == (200, state)
    assert (await ann.balance(), await shop.business.balance()) == (9_197, 803)
    read = await ann.read(path)
    assert [each["event"] for each in read["history"]] == ["place", "pay", "process", "ship", "deliver"]
    assert [(each["kind"], each["quantity"], each["tax_minor"]) for each in read["lines"]] == [("product", 3, 53)]
    movements = (await shop.owner.read(f"stock/{soup['id']}/movements"))["movements"]
    assert [(each["move"], each["available_after"], each["reserved_after"]) for each in movements] == [
        ("sold", 7, 0),
        ("reserved", 7, 3),
        ("received", 10, 0),
    ]


async def test_what_a_customer_did_not_see_is_changed_and_reserves_nothing(commerce: CommerceWorld) -> None:
    shop, ann = await OpenShop.open(commerce), await commerce.person(10_000)
    soup = await shop.sell(250, 10)
    await shop.put(ann, soup, 2)
    edit = {"version": 1, "sku": soup["sku"], "price_minor": 300}
    assert (await shop.owner.post(f"variants/{soup['id']}", edit)).json()["price_minor"] == 300
    new = {"business": shop.business.id, "currency": "THB", "total_minor": 500}
    answer = await ann.post("orders", new, key="k")
    assert refusal(answer) == (409, "changed")
    assert "the total is 600" in answer.json()["message"]
    assert refusal(await ann.post("orders", new, key="k")) == (409, "changed")
    assert (await shop.owner.read(f"stock?business={shop.business.id}"))["stock"][0]["reserved"] == 0
    assert (await ann.post("orders", new | {"total_minor": 600})).status_code == 201
