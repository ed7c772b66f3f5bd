"""Addresses: of one person, sealed, and gone with them."""

from __future__ import annotations

from typing import Any

import pytest

from storage.commerce.api_key_store import Right
from tests.support.commerce_world import CommerceWorld, refusal

pytestmark = pytest.mark.anyio

HOME = {"name": "Ann Marker", "line": "1 Marker Road", "city": "Chiang Mai", "country": "TH"}


async def test_an_address_is_stored_read_replaced_and_deleted(commerce: CommerceWorld) -> None:
    ann = await commerce.person()
    made = await ann.post("addresses", HOME, key="k")
    assert made.status_code == 201
    one = made.json()
    assert (one["version"], one["address"]) == (1, HOME)
    assert (await ann.post("addresses", HOME, key="k")).json() == one
    assert refusal(await ann.post("addresses", HOME | {"city": "Pai"}, key="k")) == (409, "key_reused")
    other = (await ann.post("addresses", HOME | {"label": "work"})).json()
    assert (await ann.read("addresses"))["addresses"] == [one, other]
    moved = (await ann.post(f"addresses/{one['id']}/replace", HOME | {"city": "Pai"}, key="r")).json()
    assert (moved["id"], moved["version"], moved["address"]["city"]) == (one["id"], 2, "Pai")
    await ann.post(f"addresses/{one['id']}/replace", HOME)
    late = (await ann.post(f"addresses/{one['id']}/replace", HOME | {"city": "Pai"}, key="r")).json()
    assert (late["version"], late["address"]) == (3, HOME)
    assert (await ann.post(f"addresses/{one['id']}/delete")).status_code == 204
    assert (await ann.read("addresses"))["addresses"] == [other]
    assert refusal(await ann.ask("GET", f"/v1/addresses/{one['id']}")) == (404, "record_not_found")
    assert refusal(await ann.post(f"addresses/{one['id']}/delete")) == (404, "record_not_found")


async def test_strangers_and_services_have_no_part_in_it(commerce: CommerceWorld) -> None:
    ann, eve = await commerce.person(), await commerce.person()
    one = (await ann.post("addresses", HOME)).json()
    service = await commerce.service(Right.ADMIN | Right.PERSONAL)
    for who in (eve, service):
        assert refusal(await who.ask("GET", f"/v1/addresses/{one['id']}")) == (404, "record_not_found")
        assert (await who.read("addresses"))["addresses"] == []
    assert refusal(await eve.post(f"addresses/{one['id']}/delete")) == (404, "record_not_found")
    assert refusal(await eve.post(f"addresses/{one['id']}/replace", HOME)) == (404, "record_not_found")
    assert refusal(await service.post("addresses", HOME)) == (403, "not_allowed")
    assert (await ann.read("addresses"))["addresses"] == [one]


IMPOSSIBLE: list[dict[str, Any]] = [
    {"country": "Thailand"},
    {"name": "x" * 201},
    {"postal_code": 50000},
    {"note": "more"},
    {"line": None},
]


async def test_an_address_that_cannot_be_is_refused(commerce: CommerceWorld) -> None:
    ann = await commerce.person()
    for changed in IMPOSSIBLE:
        assert refusal(await ann.post("addresses", HOME | changed)) == (400, "invalid_argument"), changed
    assert (await ann.read("addresses"))["addresses"] == []


async def test_a_person_keeps_a_bounded_number(commerce: CommerceWorld) -> None:
    ann = await commerce.person()
    for _ in range(50):
        assert (await ann.post("addresses", HOME)).status_code == 201
    assert refusal(await ann.post("addresses", HOME)) == (409, "records_bound")
    one = (await ann.read("addresses"))["addresses"][0]
    assert (await ann.post(f"addresses/{one['id']}/replace", HOME)).status_code == 200
    await ann.post(f"addresses/{one['id']}/delete")
    assert (await ann.post("addresses", HOME)).status_code == 201


async def test_what_is_stored_says_nothing_and_opens_in_its_own_row_only(commerce: CommerceWorld) -> None:
    ann = await commerce.person()
    one = (await ann.post("addresses", HOME)).json()
    other = (await ann.post("addresses", HOME | {"line": "y" * 60})).json()
    rows = await commerce.database.fetch("SELECT sealed FROM personal_items ORDER BY item_id")
    assert len({len(row[0]) for row in rows}) == 1
    assert not any(b"Marker" in row[0] for row in rows)
    swap = (
        "UPDATE personal_items SET sealed = (SELECT sealed FROM personal_items WHERE item_id = $2) WHERE item_id = $1"
    )
    await commerce.database.execute(swap, one["id"], other["id"])
    assert refusal(await ann.ask("GET", f"/v1/addresses/{one['id']}")) == (500, "internal")


async def test_a_key_that_is_missing_is_unavailable_and_never_replaced(commerce: CommerceWorld) -> None:
    ann = await commerce.person()
    await ann.post("addresses", HOME)
    await commerce.database.execute("UPDATE personal_keys SET key_id = gen_random_uuid()")
    await commerce.database.execute("UPDATE personal_items SET key_id = (SELECT key_id FROM personal_keys)")
    assert refusal(await ann.ask("GET", "/v1/addresses")) == (503, "unavailable")
    assert refusal(await ann.post("addresses", HOME)) == (503, "unavailable")
    assert await commerce.database.fetchval("SELECT count(*) FROM personal_keys") == 1


async def test_what_was_done_is_in_the_audit_by_ids_only(commerce: CommerceWorld) -> None:
    ann = await commerce.person()
    one = (await ann.post("addresses", HOME)).json()
    await ann.post(f"addresses/{one['id']}/delete")
    rows = await commerce.database.fetch(
        "SELECT action, actor_id::text, subject_id::text FROM audit WHERE action LIKE '%personal_item' ORDER BY at_us"
    )
    assert [tuple(row) for row in rows] == [
        ("put_personal_item", str(ann.id), one["id"]),
        ("drop_personal_item", str(ann.id), one["id"]),
    ]
