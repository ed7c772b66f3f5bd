"""Who is erased is erased for good, after their money is settled; nothing personal is left to read."""

from __future__ import annotations

from uuid import UUID

import pytest

from protocol.commerce.order_states import OrderState
from protocol.commerce.payment_states import PaymentStep
from protocol.ids import new_id, to_text
from server.refusals import RequestRefusedError
from storage.commerce.api_key_store import Right
from storage.commerce.money_rows import Purpose, StepKey, StepOutcome, account_id
from tests.support.commerce_world import TENANT, CommerceWorld, Party, refusal

pytestmark = pytest.mark.anyio

HOME = {"name": "Ann Marker", "line": "1 Marker Road", "city": "Chiang Mai", "country": "TH"}
OPEN = "open: "


async def opened(who: Party) -> str:
    """What is open of a person, as a refused erasure names it."""
    answer = await who.post("erasures", {})
    assert refusal(answer) == (409, "erasure_refused")
    message: str = answer.json()["message"]
    return message.partition(OPEN)[2].rstrip(")")


async def pay_out(commerce: CommerceWorld, who: Party, amount: int) -> None:
    """Empty a wallet."""
    shop = await commerce.person()
    assert (await who.post("payments", who.payment(shop, amount))).status_code == 201


async def test_who_is_erased_stores_nothing_more(commerce: CommerceWorld) -> None:
    ann = await commerce.person()
    one = (await ann.post("addresses", HOME, key="k")).json()
    made = await ann.post("erasures", {}, key="e")
    assert made.status_code == 201
    erasure = made.json()
    assert (erasure["state"], erasure["person"]) == ("erased", str(ann.id))
    assert (await ann.post("erasures", {}, key="e")).json() == erasure
    assert (await ann.post("erasures", {})).json() == erasure
    assert await ann.read(f"erasures/{erasure['id']}") == erasure
    assert (await ann.read("addresses"))["addresses"] == []
    assert refusal(await ann.ask("GET", f"/v1/addresses/{one['id']}")) == (404, "record_not_found")
    assert refusal(await ann.post("addresses", HOME)) == (409, "person_erased")
    assert refusal(await ann.post("addresses", HOME, key="k")) == (409, "person_erased")
    assert await commerce.database.fetchval("SELECT count(*) FROM personal_items") == 0
    assert {each["status"] for each in (await ann.read("wallets"))["wallets"]} == {"closed"}


async def test_nobody_is_erased_while_their_money_is_open(commerce: CommerceWorld) -> None:
    ann, bo = await commerce.person(1_000), await commerce.person(500)
    await ann.post("addresses", HOME)
    assert await opened(ann) == "balance"
    held = (await ann.post("payments", ann.payment(bo, 1_000, capture="later"))).json()
    assert await opened(ann) == "hold, payment"
    assert await opened(bo) == "balance, payment"
    assert (await bo.post(f"payments/{held['id']}/capture")).status_code == 200
    asked = (await bo.post("payments", bo.request(ann, 5))).json()
    assert await opened(ann) == "payment"
    await ann.post(f"payments/{asked['id']}/decline")
    assert len((await ann.read("addresses"))["addresses"]) == 1
    assert (await ann.post("erasures", {})).status_code == 201
    assert len((await bo.read("wallets"))["wallets"]) == 1


async def test_a_debt_and_a_dispute_are_open(commerce: CommerceWorld) -> None:
    ann, bo = await commerce.person(700), await commerce.person()
    paid = (await ann.post("payments", ann.payment(bo, 700))).json()
    await pay_out(commerce, bo, 700)
    clearing = account_id(TENANT, bytes(16), "THB", Purpose.CLEARING)
    answer = await commerce.commerce.ledger.dispute(
        StepKey(new_id(), b""),
        ann.id.bytes,
        TENANT,
        UUID(paid["id"]).bytes,
        PaymentStep.DISPUTE,
        clearing=clearing,
        amount=700,
    )
    assert answer.outcome is StepOutcome.DONE
    assert await opened(bo) == "debt, dispute"
    assert await opened(ann) == "dispute"


async def test_an_order_under_way_is_open_until_it_is_delivered(commerce: CommerceWorld) -> None:
    ann, shop = await commerce.person(), await commerce.person()
    await commerce.database.execute(
        """
        INSERT INTO orders (order_id, tenant_id, business_id, customer_id, number, payment_id, currency, subtotal, tax,
                            shipping, total, state, version, placed_us, moved_us)
        VALUES (gen_random_uuid(), 1, $1, $2, 1, gen_random_uuid(), 'THB', 1, 0, 0, 1, 0, 1, 1, 1)
        """,
        shop.id,
        ann.id,
    )
    for state in (OrderState.PENDING, OrderState.CONFIRMED, OrderState.PROCESSING, OrderState.SHIPPED):
        await commerce.database.execute("UPDATE orders SET state = $1", int(state))
        assert [await opened(who) for who in (ann, shop)] == ["order", "order"]
    await commerce.database.execute("UPDATE orders SET state = $1", int(OrderState.DELIVERED))
    for who in (ann, shop):
        assert (await who.post("erasures", {})).status_code == 201


async def test_a_refusal_is_final_for_its_key(commerce: CommerceWorld) -> None:
    ann = await commerce.person(100)
    assert refusal(await ann.post("erasures", {}, key="k")) == (409, "erasure_refused")
    await pay_out(commerce, ann, 100)
    assert refusal(await ann.post("erasures", {}, key="k")) == (409, "erasure_refused")
    assert (await ann.post("erasures", {})).status_code == 201


async def test_nothing_is_paid_to_who_is_erased(commerce: CommerceWorld) -> None:
    ann, bo = await commerce.person(), await commerce.person(500)
    await ann.post("erasures", {})
    assert refusal(await bo.post("payments", bo.payment(ann, 100))) == (409, "wallet_closed")


async def test_a_service_with_the_right_erases_and_nobody_else_another(commerce: CommerceWorld) -> None:
    ann, eve = await commerce.person(), await commerce.person()
    platform = await commerce.service(Right.PERSONAL)
    other = await commerce.service(Right.PAYMENTS | Right.ADMIN)
    about_ann = {"person": str(ann.id)}
    for who in (eve, other):
        assert refusal(await who.post("erasures", about_ann)) == (403, "not_allowed")
    assert refusal(await platform.post("erasures", {})) == (400, "invalid_argument")
    made = (await platform.post("erasures", about_ann)).json()
    assert await platform.read(f"erasures/{made['id']}") == await ann.read(f"erasures/{made['id']}") == made
    for who in (eve, other):
        assert refusal(await who.ask("GET", f"/v1/erasures/{made['id']}")) == (404, "record_not_found")


async def test_a_key_that_a_crash_left_is_erased_in_the_background(commerce: CommerceWorld) -> None:
    ann = await commerce.person()
    await ann.post("addresses", HOME)
    records = commerce.personal_records
    answer = await records.begin_erasure(StepKey(new_id(), b""), ann.id.bytes, TENANT, ann.id.bytes, new_id())
    assert answer.subject is not None
    erasure = f"erasures/{to_text(answer.subject)}"
    (erased,) = await records.list_keys_to_erase(10)
    key_id = erased.key_id
    assert (await ann.read(erasure))["state"] == "erasing"
    assert (await commerce.person_keys.open(key_id)).id == key_id
    await commerce.commerce.personal.upkeep.step()
    with pytest.raises(RequestRefusedError):
        await commerce.person_keys.open(key_id)
    assert (await ann.read(erasure))["state"] == "erased"


async def test_who_is_erased_gets_no_further_key_however_often_they_ask(commerce: CommerceWorld) -> None:
    ann = await commerce.person()
    await ann.post("erasures", {})
    keys = commerce.person_keys._store._copies[0]._database
    before = keys.execute("SELECT count(*) FROM keys").fetchone()
    for _ in range(3):
        assert refusal(await ann.post("addresses", HOME)) == (409, "person_erased")
    assert keys.execute("SELECT count(*) FROM keys").fetchone() == before


async def test_the_platform_and_who_is_unknown_are_not_erased(commerce: CommerceWorld) -> None:
    platform = await commerce.service(Right.PERSONAL)
    assert refusal(await platform.post("erasures", {"person": str(UUID(int=0))})) == (400, "invalid_argument")
    unknown = {"person": to_text(new_id())}
    assert refusal(await platform.post("erasures", unknown)) == (404, "record_not_found")
