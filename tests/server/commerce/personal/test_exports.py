"""An export has all that a person can read here, in parts, until it expires or they are erased."""

from __future__ import annotations

from typing import Any

import pytest

from server.commerce.resources.export_sources import PART_ROWS, PART_SHOPPING
from storage.commerce.api_key_store import Right
from tests.support.commerce_world import CommerceWorld, Party, refusal
from tests.support.open_shop import OpenShop

pytestmark = pytest.mark.anyio

HOME = {"name": "Ann Marker", "line": "1 Marker Road", "country": "TH"}
WHO = {"kind": "person", "name": "Ann Marker", "country": "TH"}


async def complete(commerce: CommerceWorld, who: Party) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """An export when it is complete, and its parts."""
    export = (await who.post("exports")).json()
    while await commerce.commerce.personal.upkeep.step():
        pass
    export = await who.read(f"exports/{export['id']}")
    return export, [await who.read(f"exports/{export['id']}/parts/{part}") for part in range(export["parts"])]


def rows_of(parts: list[dict[str, Any]], source: str) -> list[dict[str, Any]]:
    return [row for part in parts if part["source"] == source for row in part["rows"]]


async def test_an_export_has_all_that_its_person_can_read(commerce: CommerceWorld) -> None:
    ann, shop = await commerce.person(10_000, "THB", "IDR"), await commerce.person()
    await ann.post("addresses", HOME)
    await ann.post("identity", {"identity": WHO})
    for _ in range(PART_ROWS + 1):
        commerce.clock.advance(0.1)  # a person asks 50 times a second at most
        assert (await ann.post("payments", ann.payment(shop, 5))).status_code == 201
    export, parts = await complete(commerce, ann)
    assert export["state"] == "complete"
    assert max(len(part["rows"]) for part in parts) == PART_ROWS
    wallets = (await ann.read("wallets"))["wallets"]
    assert rows_of(parts, "wallets") == wallets
    payments = rows_of(parts, "payments")
    assert len({row["id"] for row in payments}) == len(payments) == PART_ROWS + 1
    lines = rows_of(parts, "statements")
    assert (len(lines), sum(row["amount_minor"] for row in lines)) == (PART_ROWS + 2, wallets[1]["balance_minor"])
    assert [row["address"] for row in rows_of(parts, "addresses")] == [HOME]
    assert [row["identity"] for row in rows_of(parts, "identity")] == [WHO]


async def test_an_export_is_its_persons_and_one_at_a_time(commerce: CommerceWorld) -> None:
    ann, eve = await commerce.person(), await commerce.person()
    one = (await ann.post("exports")).json()
    assert (one["state"], one["parts"]) == ("making", 0)
    assert (await ann.post("exports")).json() == one
    await complete(commerce, ann)
    for path in (f"exports/{one['id']}", f"exports/{one['id']}/parts/0"):
        assert refusal(await eve.ask("GET", f"/v1/{path}")) == (404, "record_not_found")
    assert refusal(await ann.ask("GET", f"/v1/exports/{one['id']}/parts/99")) == (404, "record_not_found")
    service = await commerce.service(Right.PERSONAL)
    assert refusal(await service.post("exports")) == (403, "not_allowed")


async def test_an_export_is_sealed_and_goes_when_it_expires(commerce: CommerceWorld) -> None:
    ann = await commerce.person()
    await ann.post("addresses", HOME)
    export, _ = await complete(commerce, ann)
    stored = await commerce.database.fetch("SELECT sealed FROM export_parts")
    assert not any(b"Marker" in row[0] for row in stored)
    await commerce.database.execute("UPDATE exports SET expires_us = 1")
    assert refusal(await ann.ask("GET", f"/v1/exports/{export['id']}")) == (404, "record_not_found")
    await commerce.commerce.personal.upkeep.step()
    assert await commerce.database.fetchval("SELECT count(*) FROM export_parts") == 0
    assert await commerce.database.fetchval("SELECT count(*) FROM exports") == 0
    assert (await ann.post("exports")).json()["id"] != export["id"]


async def test_an_erasure_takes_the_export_with_it(commerce: CommerceWorld) -> None:
    ann = await commerce.person()
    export, _ = await complete(commerce, ann)
    assert (await ann.post("erasures", {})).status_code == 201
    assert refusal(await ann.ask("GET", f"/v1/exports/{export['id']}")) == (404, "record_not_found")
    assert refusal(await ann.post("exports")) == (409, "person_erased")
    assert await commerce.database.fetchval("SELECT count(*) FROM export_parts") == 0


async def test_an_export_has_orders_carts_and_roles(commerce: CommerceWorld) -> None:
    shop = await OpenShop.open(commerce)
    variant = await shop.sell(5, 1_000)
    ann = await commerce.person(1_000)
    orders = []
    for _ in range(PART_SHOPPING + 1):
        order = await shop.buy(ann, variant)
        await shop.pay(ann, order)
        orders.append(order["id"])
    await shop.put(ann, variant, 3)
    packer = {"person": ann.id, "role": "packer"}
    assert (await shop.owner.post(f"businesses/{shop.business.id}/staff", packer)).status_code == 204
    _, parts = await complete(commerce, ann)
    found = rows_of(parts, "orders")
    assert sorted(row["id"] for row in found) == sorted(orders)
    assert all(row["lines"][0]["variant"] == variant["id"] for row in found)
    (cart,) = rows_of(parts, "carts")
    assert (cart["business"], cart["lines"][0]["quantity"]) == (str(shop.business.id), 3)
    assert rows_of(parts, "roles") == [{"business": str(shop.business.id), "role": "packer"}]
    eve = await commerce.person()
    _, parts = await complete(commerce, eve)
    assert not any(rows_of(parts, source) for source in ("orders", "carts", "roles", "top_ups", "withdrawals"))
