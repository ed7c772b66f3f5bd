"""Products, variants and stock over HTTP: who sees them, and what is refused."""

from __future__ import annotations

import pytest

from tests.support.commerce_world import CommerceWorld, refusal
from tests.support.open_shop import IMAGE, OpenShop

pytestmark = pytest.mark.anyio


async def test_everybody_sees_what_is_active_and_staff_see_all(commerce: CommerceWorld) -> None:
    shop, ann = await OpenShop.open(commerce), await commerce.person()
    soup = await shop.sell(250, 10)
    draft = (await shop.owner.post("products", shop.product(status="draft", images=[]))).json()
    path = f"products?business={shop.business.id}"
    assert [each["id"] for each in (await ann.read(path))["products"]] == [soup["product"]]
    assert len((await shop.owner.read(path))["products"]) == 2
    first = (await shop.owner.read(f"{path}&limit=1"))["products"]
    rest = (await shop.owner.read(f"{path}&after={first[0]['id']}"))["products"]
    assert {each["id"] for each in first + rest} == {soup["product"], draft["id"]}
    assert refusal(await ann.ask("GET", f"/v1/products/{draft['id']}")) == (404, "product_not_found")
    hidden = {"product": soup["product"], "sku": "b", "price_minor": 1, "status": "draft"}
    assert (await shop.owner.post("variants", hidden)).status_code == 201
    variants = f"products/{soup['product']}/variants"
    assert [each["id"] for each in (await ann.read(variants))["variants"]] == [soup["id"]]
    assert len((await shop.owner.read(variants))["variants"]) == 2


async def test_an_article_number_is_once_in_a_business(commerce: CommerceWorld) -> None:
    shop, other = await OpenShop.open(commerce), await OpenShop.open(commerce)
    soup, tea = await shop.sell(250), await shop.sell(100)
    taken = {"product": tea["product"], "sku": soup["sku"], "price_minor": 1}
    assert refusal(await shop.owner.post("variants", taken)) == (409, "sku_taken")
    edit = {"version": 1, "sku": soup["sku"], "price_minor": 1}
    assert refusal(await shop.owner.post(f"variants/{tea['id']}", edit)) == (409, "sku_taken")
    assert (await shop.owner.post(f"variants/{tea['id']}", edit | {"sku": "tea"})).json()["sku"] == "tea"
    theirs = await other.sell(1)
    same = {"version": 1, "sku": soup["sku"], "price_minor": 1}
    assert (await other.owner.post(f"variants/{theirs['id']}", same)).status_code == 200


async def test_an_edit_of_what_has_changed_is_refused(commerce: CommerceWorld) -> None:
    shop = await OpenShop.open(commerce)
    soup = await shop.sell(250)
    edit = {"version": 1, "name": "Broth", "images": [IMAGE], "status": "active"}
    assert (await shop.owner.post(f"products/{soup['product']}", edit)).json()["version"] == 2
    assert refusal(await shop.owner.post(f"products/{soup['product']}", edit | {"name": "Tea"})) == (409, "changed")
    assert (await shop.owner.read(f"products/{soup['product']}"))["name"] == "Broth"
    price = {"version": 2, "sku": soup["sku"], "price_minor": 1}
    assert refusal(await shop.owner.post(f"variants/{soup['id']}", price)) == (409, "changed")


@pytest.mark.parametrize(
    "wrong",
    [
        {"images": []},
        {"images": ["http://example.com/a.png"]},
        {"images": [IMAGE] * 21},
        {"name": ""},
        {"name": "a\nb"},
        {"attributes": {"size": 5}},
        {"attributes": {str(n): "x" for n in range(41)}},
        {"tax_basis_points": 10_001},
        {"status": "sold"},
        {"currency": "THBX"},
        {"price": 5},
    ],
)
async def test_a_product_that_cannot_be_is_refused(commerce: CommerceWorld, wrong: dict[str, object]) -> None:
    shop = await OpenShop.open(commerce)
    assert refusal(await shop.owner.post("products", shop.product(**wrong))) == (400, "invalid_argument")


@pytest.mark.parametrize("price", [0, -1, 10.5, "5", 10**15 + 1])
async def test_a_price_that_is_none_is_refused(commerce: CommerceWorld, price: object) -> None:
    shop = await OpenShop.open(commerce)
    product = (await shop.owner.post("products", shop.product())).json()["id"]
    new = {"product": product, "sku": "a", "price_minor": price}
    assert refusal(await shop.owner.post("variants", new)) == (400, "invalid_argument")


async def test_stock_never_falls_below_nothing(commerce: CommerceWorld) -> None:
    shop = await OpenShop.open(commerce)
    soup = await shop.sell(250, 3)
    assert refusal(await shop.owner.post("stock", {"variant": soup["id"], "move": "corrected", "change": -4})) == (
        409,
        "out_of_stock",
    )
    assert refusal(await shop.owner.post("stock", {"variant": soup["id"], "move": "received", "change": -1})) == (
        400,
        "amount_refused",
    )
    fewer = await shop.owner.post("stock", {"variant": soup["id"], "move": "corrected", "change": -3}, key="k")
    assert fewer.json()["available"] == 0
    again = await shop.owner.post("stock", {"variant": soup["id"], "move": "corrected", "change": -3}, key="k")
    assert again.json()["available"] == 0


async def test_strangers_learn_nothing_of_a_shop(commerce: CommerceWorld) -> None:
    shop, eve, ann = await OpenShop.open(commerce), await commerce.person(), await commerce.person(10_000)
    soup = await shop.sell(250, 3)
    order = await shop.buy(ann, soup)
    edit = {"version": 1, "name": "Mine", "currencies": ["THB"], "status": "active"}
    price = {"version": 1, "sku": "a", "price_minor": 1}
    product = {"version": 1, "name": "Mine"}
    business = [
        await eve.post(f"businesses/{shop.business.id}", edit),
        await eve.post(f"businesses/{shop.business.id}/staff", {"person": eve.id, "role": "owner"}),
        await eve.post("products", shop.product()),
        await eve.ask("GET", f"/v1/stock?business={shop.business.id}"),
        await eve.ask("GET", f"/v1/orders?business={shop.business.id}"),
    ]
    assert {refusal(each) for each in business} == {(404, "business_not_found")}
    catalogue = [
        await eve.post(f"products/{soup['product']}", product),
        await eve.post(f"variants/{soup['id']}", price),
        await eve.post("variants", {"product": soup["product"], "sku": "a", "price_minor": 1}),
        await eve.post("stock", {"variant": soup["id"], "move": "received", "change": 1}),
        await eve.ask("GET", f"/v1/stock/{soup['id']}/movements"),
    ]
    assert {refusal(each) for each in catalogue} == {(404, "product_not_found")}
    orders = [
        await eve.ask("GET", f"/v1/orders/{order['id']}"),
        await eve.post(f"orders/{order['id']}/cancel"),
        await eve.post(f"orders/{order['id']}/ship"),
    ]
    assert {refusal(each) for each in orders} == {(404, "order_not_found")}
