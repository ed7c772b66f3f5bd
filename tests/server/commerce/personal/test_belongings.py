"""What an erasure takes of shops: carts and roles; who owns a business alone is not erased."""

from __future__ import annotations

import pytest

from tests.support.commerce_world import CommerceWorld, refusal
from tests.support.open_shop import OpenShop

pytestmark = pytest.mark.anyio


async def test_carts_and_roles_go_with_the_erasure_and_none_come_after(commerce: CommerceWorld) -> None:
    shop = await OpenShop.open(commerce)
    variant = await shop.sell(5, 10)
    ann, bo = await commerce.person(), await commerce.person()
    packer = {"person": ann.id, "role": "packer"}
    staff = f"businesses/{shop.business.id}/staff"
    assert (await shop.owner.post(staff, packer)).status_code == 204
    for who in (ann, bo):
        assert (await shop.put(who, variant)).status_code == 200
    assert (await ann.post("erasures", {})).status_code == 201
    for table in ("carts", "cart_lines"):
        left = await commerce.database.fetch(f"SELECT person_id FROM {table}")
        assert [row[0] for row in left] == [bo.id]
    people = [row["person"] for row in (await shop.owner.read(staff))["staff"]]
    assert people == [str(shop.owner.id)]
    assert refusal(await shop.put(ann, variant)) == (409, "person_erased")
    assert refusal(await shop.owner.post(staff, packer)) == (409, "person_erased")
    assert (await ann.read(f"carts/{shop.business.id}"))["lines"] == []


async def test_the_last_owner_of_a_business_is_not_erased(commerce: CommerceWorld) -> None:
    shop = await OpenShop.open(commerce)
    answer = await shop.owner.post("erasures", {})
    assert refusal(answer) == (409, "erasure_refused")
    assert "open: last_owner" in answer.json()["message"]
    heir = await commerce.person()
    await shop.owner.post(f"businesses/{shop.business.id}/staff", {"person": heir.id, "role": "owner"})
    assert (await shop.owner.post("erasures", {})).status_code == 201
    new = {"id": (await commerce.person()).id, "owner": shop.owner.id, "name": "Other", "currencies": ["THB"]}
    assert refusal(await commerce.admin.post("businesses", new)) == (409, "person_erased")
