"""What the law wants kept outlives the erasure of the person, for its years and no longer."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from protocol.ids import new_id
from server.commerce.personal.retention import keep_us
from server.identity.vault import hash_token, new_api_key
from server.refusals import RequestRefusedError
from storage.commerce.api_key_store import Right
from storage.commerce.money_rows import Answer, StepOutcome
from storage.commerce.personal_records import PersonalRecords
from tests.support.commerce_world import TENANT, CommerceWorld, Party, refusal

pytestmark = pytest.mark.anyio

HOME = {"name": "Ann Marker", "line": "1 Marker Road", "country": "TH"}
WHO = {"kind": "person", "name": "Ann Marker", "country": "TH", "tax_number": "1-2345"}
YEAR_DAYS = 365


async def test_an_identity_is_set_read_and_replaced(commerce: CommerceWorld) -> None:
    ann = await commerce.person()
    assert refusal(await ann.ask("GET", "/v1/identity")) == (404, "record_not_found")
    made = (await ann.post("identity", {"identity": WHO}, key="k")).json()
    assert (made["version"], made["identity"], made["keep_until_ms"]) == (1, WHO, None)
    assert (await ann.post("identity", {"identity": WHO}, key="k")).json() == made
    assert refusal(await ann.post("identity", {"identity": WHO | {"name": "Bo"}}, key="k")) == (409, "key_reused")
    renamed = (await ann.post("identity", {"identity": WHO | {"name": "Bo"}})).json()
    assert await ann.read("identity") == renamed
    assert (renamed["version"], renamed["identity"]["name"]) == (2, "Bo")


async def test_a_service_with_the_right_reads_and_writes_and_nobody_else(commerce: CommerceWorld) -> None:
    ann, eve = await commerce.person(), await commerce.person()
    platform, other = await commerce.service(Right.PERSONAL), await commerce.service(Right.ADMIN | Right.PAYMENTS)
    wish = {"identity": WHO, "person": str(ann.id)}
    made = (await platform.post("identity", wish)).json()
    assert await ann.read("identity") == await platform.read(f"identity?person={ann.id}") == made
    for who in (eve, other):
        assert refusal(await who.post("identity", wish)) == (403, "not_allowed")
        assert refusal(await who.ask("GET", f"/v1/identity?person={ann.id}")) == (403, "not_allowed")


async def test_a_copy_stays_as_it_was_when_the_order_was_made(commerce: CommerceWorld) -> None:
    ann, eve = await commerce.person(), await commerce.person()
    home = (await ann.post("addresses", HOME)).json()["id"]
    await ann.post("identity", {"identity": WHO})
    order = UUID(bytes=new_id())
    wish: dict[str, Any] = {"order": order, "address": home}
    copy = (await ann.post("legal-copies", wish)).json()
    assert (copy["address"], copy["identity"]) == (HOME, WHO)
    years = (copy["keep_until_ms"] - copy["at_ms"]) / 86_400_000 / YEAR_DAYS
    assert 7 <= years < 7.1
    await ann.post(f"addresses/{home}/replace", HOME | {"line": "elsewhere"})
    await ann.post("identity", {"identity": WHO | {"name": "Bo"}})
    assert (await ann.post("legal-copies", wish)).json() == copy
    assert await ann.read(f"legal-copies/{order}") == copy
    assert refusal(await eve.ask("GET", f"/v1/legal-copies/{order}")) == (404, "record_not_found")
    assert refusal(await eve.post("legal-copies", wish)) == (404, "record_not_found")


async def test_legal_records_outlive_the_erasure_and_end_with_their_years(commerce: CommerceWorld) -> None:
    ann, platform = await commerce.person(), await commerce.service(Right.PERSONAL)
    home = (await ann.post("addresses", HOME)).json()["id"]
    await ann.post("identity", {"identity": WHO})
    order = UUID(bytes=new_id())
    await ann.post("legal-copies", {"order": order, "address": home})
    assert (await ann.post("erasures", {})).status_code == 201
    kept = await platform.read(f"identity?person={ann.id}")
    assert (kept["identity"], kept["keep_until_ms"] is not None) == (WHO, True)
    assert (await platform.read(f"legal-copies/{order}?person={ann.id}"))["address"] == HOME
    legal_key = await commerce.database.fetchval("SELECT key_id FROM personal_keys WHERE key_kind = 2")
    upkeep = commerce.commerce.personal.upkeep
    await upkeep.step()
    assert (await commerce.person_keys.open(legal_key.bytes)).id == legal_key.bytes
    past = "UPDATE personal_items SET keep_until = keep_until - $1 WHERE kind = $2"
    await commerce.database.execute(past, keep_us("TH") + 1, 2)
    await upkeep.step()
    assert refusal(await platform.ask("GET", f"/v1/identity?person={ann.id}")) == (404, "record_not_found")
    assert (await platform.read(f"legal-copies/{order}?person={ann.id}"))["address"] == HOME
    await commerce.database.execute(past, keep_us("TH") + 60_000_000, 3)
    await upkeep.step()
    assert await commerce.database.fetchval("SELECT count(*) FROM personal_items") == 0
    with pytest.raises(RequestRefusedError):
        await commerce.person_keys.open(legal_key.bytes)


@pytest.mark.parametrize("changed", [{"country": "th"}, {"kind": "robot"}, {"name": ""}, {"born_on": "yesterday"}])
async def test_an_identity_that_cannot_be_is_refused(commerce: CommerceWorld, changed: dict[str, Any]) -> None:
    ann = await commerce.person()
    assert refusal(await ann.post("identity", {"identity": WHO | changed})) == (400, "invalid_argument")


def test_years_are_seven_or_ten_and_ten_where_nothing_is_known() -> None:
    years = {country: keep_us(country) // (366 * 86_400_000_000) for country in ("TH", "ID", "FR")}
    assert years == {"TH": 7, "ID": 10, "FR": 10}


async def test_a_service_of_another_tenant_is_in_the_way_of_no_identity_and_no_copy(commerce: CommerceWorld) -> None:
    api_key = new_api_key()
    caller = await commerce._api_keys.set_key(
        TENANT + 1, "foreign", new_id(), hash_token(api_key), rights=Right.PERSONAL, businesses=[]
    )
    foreign, ann = Party(commerce, UUID(bytes=caller), api_key=api_key), await commerce.person()
    theirs = {"kind": "person", "name": "Eve", "country": "TH"}
    assert (await foreign.post("identity", {"identity": theirs, "person": ann.id})).status_code == 200
    ours = {"kind": "person", "name": "Ann", "country": "TH"}
    answer = await ann.post("identity", {"identity": ours})
    assert (answer.status_code, answer.json()["identity"]) == (200, ours)
    assert (await foreign.read(f"identity?person={ann.id}"))["identity"] == theirs


async def test_an_item_whose_key_is_erased_again_and_again_is_unavailable(
    commerce: CommerceWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = await commerce.person()

    async def again(*_: object) -> Answer:
        return Answer(StepOutcome.AGAIN)

    monkeypatch.setattr(PersonalRecords, "put_item", again)
    answer = await ann.post("identity", {"identity": {"kind": "person", "name": "Ann", "country": "TH"}})
    assert refusal(answer) == (503, "unavailable")
