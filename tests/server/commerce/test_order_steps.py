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


async def test_what_cannot_be_ordered_is_refused_and_moves_nothing(commerce: CommerceWorld) -> None:
    shop, ann = await OpenShop.open(commerce), await commerce.person(10_000)
    soup, gone = await shop.sell(250, 2), await shop.sell(100, 5)
    new = {"business": shop.business.id, "currency": "THB", "total_minor": 250}
    assert refusal(await ann.post("orders", new)) == (409, "cart_empty")
    await shop.put(ann, soup, 3)
    answer = await shop.place(ann)
    assert refusal(answer) == (409, "out_of_stock")
    assert "line 1" in answer.json()["message"]
    await shop.put(ann, soup, 1)
    assert refusal(await ann.post("orders", new | {"currency": "USD"})) == (400, "currency_refused")
    assert refusal(await ann.post("orders", new | {"shipping": ann.id})) == (409, "shipping_refused")
    await shop.put(ann, gone, 1)
    edit = {"version": 1, "sku": gone["sku"], "price_minor": 100, "status": "closed"}
    await shop.owner.post(f"variants/{gone['id']}", edit)
    assert refusal(await shop.place(ann)) == (404, "product_not_found")
    await shop.put(ann, gone, 0)
    poor = await commerce.person(1, "USD")
    await shop.put(poor, soup, 1)
    assert refusal(await shop.place(poor)) == (404, "wallet_not_found")
    closed = {"version": 1, "name": "Noodles", "currencies": ["THB"], "status": "closed"}
    assert (await shop.owner.post(f"businesses/{shop.business.id}", closed)).status_code == 200
    assert refusal(await ann.post("orders", new)) == (409, "business_closed")
    (stock, _) = (await shop.owner.read(f"stock?business={shop.business.id}"))["stock"]
    assert (stock["available"], stock["reserved"]) == (2, 0)


async def test_shipping_is_a_line_of_the_order_with_its_tax(commerce: CommerceWorld) -> None:
    shop, ann = await OpenShop.open(commerce), await commerce.person(10_000)
    soup = await shop.sell(250, 10, ships=True, tax_basis_points=1000)
    options = f"businesses/{shop.business.id}/shipping-options"
    courier = {"name": "Courier", "currency": "THB", "price_minor": 45, "tax_basis_points": 700}
    option = (await shop.owner.post(options, courier)).json()
    assert (await ann.read(options))["options"] == [option]
    await shop.put(ann, soup, 2)
    assert refusal(await shop.place(ann)) == (409, "shipping_refused")
    order = (await shop.place(ann, shipping=option["id"])).json()
    assert (order["subtotal_minor"], order["shipping_minor"], order["tax_minor"]) == (500, 45, 53)
    lines = (await ann.read(f"orders/{order['id']}"))["lines"]
    assert [(each["kind"], each["amount_minor"], each["tax_minor"]) for each in lines] == [
        ("product", 500, 50),
        ("shipping", 45, 3),
    ]


async def test_a_customer_cancels_until_staff_process_the_order(commerce: CommerceWorld) -> None:
    shop, ann = await OpenShop.open(commerce), await commerce.person(10_000)
    soup = await shop.sell(250, 10)
    order = await shop.buy(ann, soup, 2)
    assert (await ann.post(f"orders/{order['id']}/cancel")).json()["state"] == "cancelled"
    assert (await ann.read(f"payments/{order['payment']}"))["state"] == "declined"
    assert refusal(await ann.post(f"orders/{order['id']}/cancel")) == (409, "order_state")
    paid = await shop.buy(ann, soup, 2)
    await shop.pay(ann, paid)
    assert (await ann.post(f"orders/{paid['id']}/cancel")).json()["state"] == "cancelled"
    assert (await ann.read(f"payments/{paid['payment']}"))["state"] == "refunded"
    begun = await shop.buy(ann, soup, 2)
    await shop.pay(ann, begun)
    assert refusal(await ann.post(f"orders/{begun['id']}/process")) == (403, "not_allowed")
    await shop.owner.post(f"orders/{begun['id']}/process")
    assert refusal(await ann.post(f"orders/{begun['id']}/cancel")) == (403, "not_allowed")
    assert (await shop.owner.post(f"orders/{begun['id']}/cancel")).json()["state"] == "cancelled"
    assert (await ann.balance(), await shop.business.balance()) == (10_000, 0)
    (stock,) = (await shop.owner.read(f"stock?business={shop.business.id}"))["stock"]
    assert (stock["available"], stock["reserved"]) == (10, 0)


async def test_orders_come_in_pages_of_the_customer_and_of_the_business(commerce: CommerceWorld) -> None:
    shop, ann, eve = await OpenShop.open(commerce), await commerce.person(10_000), await commerce.person(10_000)
    soup = await shop.sell(250, 10)
    of_ann = [(await shop.buy(ann, soup))["id"] for _ in range(3)]
    of_eve = (await shop.buy(eve, soup))["id"]
    assert [each["id"] for each in (await ann.read("orders"))["orders"]] == of_ann[::-1]
    path = f"orders?business={shop.business.id}"
    first = (await shop.owner.read(f"{path}&limit=2"))["orders"]
    rest = (await shop.owner.read(f"{path}&limit=2&before={first[-1]['id']}"))["orders"]
    assert [each["id"] for each in first + rest] == [of_eve, *of_ann[::-1]]
    assert {each["number"] for each in first + rest} == {1, 2, 3, 4}
    await shop.pay(eve, (await eve.read(f"orders/{of_eve}")))
    confirmed = (await shop.owner.read(f"{path}&in_state=confirmed"))["orders"]
    assert [each["id"] for each in confirmed] == [of_eve]


async def test_an_order_that_is_not_paid_in_time_is_cancelled_for_who_reads_it(commerce: CommerceWorld) -> None:
    shop, ann = await OpenShop.open(commerce), await commerce.person(10_000)
    soup = await shop.sell(250, 1)
    order = await shop.buy(ann, soup, expires_in_s=60)
    await commerce.database.execute("UPDATE payments SET expires_us = 1")
    assert (await ann.read("orders"))["orders"][0]["state"] == "cancelled"
    await shop.buy(ann, soup)
    assert (await ann.read(f"payments/{order['payment']}"))["state"] == "expired"


async def test_an_order_that_asks_for_more_than_an_hour_is_refused(commerce: CommerceWorld) -> None:
    shop, ann = await OpenShop.open(commerce), await commerce.person()
    await shop.put(ann, await shop.sell(250, 1))
    assert refusal(await shop.place(ann, expires_in_s=3_601)) == (400, "invalid_argument")
    assert (await shop.place(ann, expires_in_s=3_600)).status_code == 201


HOME = {"name": "Ann", "line": "1 Road", "city": "Chiang Mai", "country": "TH"}


async def test_an_order_keeps_the_address_that_its_customer_had(commerce: CommerceWorld) -> None:
    shop, ann = await OpenShop.open(commerce), await commerce.person(10_000)
    stranger, soup = await commerce.person(), await shop.sell(250, 10)
    address = (await ann.post("addresses", HOME)).json()["id"]
    await shop.put(ann, soup)
    assert refusal(await shop.place(ann, address=str(stranger.id))) == (404, "record_not_found")
    order = (await shop.place(ann, address=address)).json()
    path = f"/v1/orders/{order['id']}/address"
    assert (await ann.ask("GET", path)).json()["city"] == "Chiang Mai"
    assert refusal(await shop.owner.ask("GET", path)) == (404, "record_not_found")
    await shop.pay(ann, order)
    assert (await ann.post(f"addresses/{address}/replace", HOME | {"city": "Pai"})).status_code == 200
    assert (await shop.owner.ask("GET", path)).json()["city"] == "Chiang Mai"
    assert refusal(await stranger.ask("GET", path)) == (404, "order_not_found")
    for step in ("process", "ship", "deliver"):
        assert (await shop.owner.post(f"orders/{order['id']}/{step}")).status_code == 200
    assert refusal(await shop.owner.ask("GET", path)) == (404, "record_not_found")


async def test_an_order_is_the_same_when_its_address_is_gone(commerce: CommerceWorld) -> None:
    shop, ann = await OpenShop.open(commerce), await commerce.person(10_000)
    soup = await shop.sell(250, 10)
    address = (await ann.post("addresses", HOME)).json()["id"]
    await shop.put(ann, soup)
    new = {"business": shop.business.id, "currency": "THB", "total_minor": 250, "address": address}
    order = (await ann.post("orders", new, key="k")).json()
    assert (await ann.post(f"addresses/{address}/replace", HOME | {"city": "Pai"})).status_code == 200
    assert (await ann.post("orders", new, key="k")).json() == order
    assert (await ann.post(f"addresses/{address}/delete")).status_code == 204
    assert (await ann.post("orders", new, key="k")).json() == order
    assert (await ann.ask("GET", f"/v1/orders/{order['id']}/address")).json()["city"] == "Chiang Mai"
