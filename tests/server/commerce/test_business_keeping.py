"""Businesses and their staff over HTTP: who may do what."""

from __future__ import annotations

from uuid import UUID

import pytest

from protocol.commerce.shop_terms import BUSINESSES_OF_PERSON_MAX
from protocol.ids import new_id
from storage.commerce.api_key_store import Right
from tests.support.commerce_world import CommerceWorld, refusal
from tests.support.open_shop import OpenShop

pytestmark = pytest.mark.anyio


async def test_a_business_is_made_by_an_admin_of_the_platform(commerce: CommerceWorld) -> None:
    ann, business = await commerce.person(), await commerce.person(business=True)
    new = {"id": business.id, "owner": ann.id, "name": "Noodles", "currencies": ["THB"]}
    assert refusal(await ann.post("businesses", new)) == (403, "not_allowed")
    assert refusal(await commerce.admin.post("businesses", new | {"currencies": ["XXX"]})) == (400, "currency_refused")
    made = (await commerce.admin.post("businesses", new)).json()
    assert refusal(await commerce.admin.post("businesses", new)) == (409, "changed")
    (own,) = (await ann.read("businesses"))["businesses"]
    assert (own["id"], own["role"], made["version"]) == (str(business.id), "owner", 1)


async def test_a_refusal_for_want_of_a_right_is_not_final(commerce: CommerceWorld) -> None:
    shop, bo = await OpenShop.open(commerce), await commerce.person()
    staff, new = f"businesses/{shop.business.id}/staff", shop.product()

    async def sell_as(role: str) -> tuple[int, str]:
        assert (await shop.owner.post(staff, {"person": bo.id, "role": role})).status_code == 204
        answer = await bo.post("products", new, key="one")
        return answer.status_code, answer.json().get("id", "")

    assert (await sell_as("packer"))[0] == 403
    made = await sell_as("seller")
    assert made[0] == 201
    assert await sell_as("packer") == made  # that answer is final


async def test_a_role_allows_what_its_table_says(commerce: CommerceWorld) -> None:
    shop = await OpenShop.open(commerce)
    people = {role: await commerce.person() for role in ("manager", "seller", "packer")}
    staff = f"businesses/{shop.business.id}/staff"
    for role, person in people.items():
        assert (await shop.owner.post(staff, {"person": person.id, "role": role})).status_code == 204
    soup, ann = await shop.sell(250, 10), await commerce.person(10_000)
    order = await shop.buy(ann, soup)
    await shop.pay(ann, order)

    async def may(role: str) -> list[bool]:
        person = people[role]
        business = await shop.owner.read(f"businesses/{shop.business.id}")
        edit = {"version": business["version"], "name": role, "currencies": ["THB"], "status": "active"}
        answers = [
            await person.post(staff, {"person": ann.id, "role": "packer"}),
            await person.post(f"businesses/{shop.business.id}", edit),
            await person.post("products", shop.product()),
            await person.post("stock", {"variant": soup["id"], "move": "corrected", "change": -1}),
            await person.ask("GET", f"/v1/orders/{order['id']}"),
            await person.ask("GET", f"/v1/wallets?owner={shop.business.id}"),
        ]
        assert {refusal(each)[1] for each in answers if each.status_code >= 400} <= {"not_allowed", "wallet_not_found"}
        return [each.status_code < 400 for each in answers]

    assert await may("manager") == [False, True, True, True, True, True]
    assert await may("seller") == [False, False, True, True, True, False]
    assert await may("packer") == [False, False, False, True, True, False]
    assert refusal(await people["seller"].post(f"orders/{order['id']}/cancel")) == (403, "not_allowed")
    assert (await people["packer"].post(f"orders/{order['id']}/process")).status_code == 200
    assert refusal(await people["seller"].post(f"payments/{order['payment']}/refund"))[1] == "payment_not_found"
    assert (await people["manager"].post(f"payments/{order['payment']}/refund")).json()["state"] == "refunded"
    history = (await ann.read(f"orders/{order['id']}"))["history"]
    assert [(each["event"], each["by"]) for each in history[2:]] == [
        ("process", str(people["packer"].id)),
        ("cancel", str(people["manager"].id)),
    ]


async def test_who_is_no_staff_any_more_does_nothing(commerce: CommerceWorld) -> None:
    shop, bob = await OpenShop.open(commerce), await commerce.person()
    staff = f"businesses/{shop.business.id}/staff"
    await shop.owner.post(staff, {"person": bob.id, "role": "manager"})
    assert (await bob.post("products", shop.product())).status_code == 201
    assert len((await bob.read(staff))["staff"]) == 2
    await shop.owner.post(staff, {"person": bob.id, "role": None})
    assert refusal(await bob.post("products", shop.product())) == (404, "business_not_found")
    assert refusal(await bob.ask("GET", f"/v1/{staff}")) == (404, "business_not_found")


async def test_a_business_keeps_an_owner(commerce: CommerceWorld) -> None:
    shop, bob = await OpenShop.open(commerce), await commerce.person()
    staff = f"businesses/{shop.business.id}/staff"
    for role in ("manager", None):
        answer = await shop.owner.post(staff, {"person": shop.owner.id, "role": role})
        assert refusal(answer) == (409, "last_owner")
    await shop.owner.post(staff, {"person": bob.id, "role": "owner"})
    assert (await shop.owner.post(staff, {"person": shop.owner.id, "role": None})).status_code == 204


async def test_a_person_is_staff_of_so_many_businesses(commerce: CommerceWorld) -> None:
    bob, shop = await commerce.person(), await OpenShop.open(commerce)
    await commerce.database.executemany(
        "INSERT INTO staff (business_id, person_id, tenant_id, role, since_us) VALUES ($1, $2, 1, 3, 1)",
        [(UUID(bytes=new_id()), bob.id) for _ in range(BUSINESSES_OF_PERSON_MAX)],
    )
    answer = await shop.owner.post(f"businesses/{shop.business.id}/staff", {"person": bob.id, "role": "seller"})
    assert refusal(answer) == (409, "shop_bound")


async def test_a_key_acts_for_its_businesses_with_the_right_shops(commerce: CommerceWorld) -> None:
    shop, other = await OpenShop.open(commerce), await OpenShop.open(commerce)
    key = await commerce.service(Right.SHOPS, shop.business)
    weak = await commerce.service(Right.PAYMENTS, shop.business)
    assert (await key.post("products", shop.product())).status_code == 201
    assert refusal(await weak.post("products", shop.product())) == (403, "not_allowed")
    assert refusal(await key.post("products", other.product())) == (404, "business_not_found")
    staff = {"person": key.id, "role": "owner"}
    assert refusal(await key.post(f"businesses/{shop.business.id}/staff", staff)) == (403, "not_allowed")
    assert refusal(await key.post("orders", {"business": shop.business.id, "currency": "THB", "total_minor": 1})) == (
        403,
        "not_allowed",
    )
