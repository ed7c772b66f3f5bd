"""What cannot be is refused with a code, explains nothing of the inside, and moves nothing."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
import pytest

from protocol.ids import new_id
from tests.support.commerce_world import CommerceWorld, Party, approval_of, refusal

pytestmark = pytest.mark.anyio

REFUSED = {(400, "invalid_argument"), (400, "malformed")}


AMOUNTS = [b"0", b"-1", b"10.5", b"1000000000000001", b"9223372036854775808", b"1e400", b"5.0", b'"5"', b"true", b"[1]"]


async def test_an_amount_that_is_none_is_refused(commerce: CommerceWorld) -> None:
    ann, shop = await commerce.person(10_000), await commerce.person()
    held = (await ann.post("payments", ann.payment(shop, 100, capture="later"))).json()
    before = await commerce.moved()
    for amount in [*AMOUNTS, b"null"]:
        content = msgspec.json.encode(ann.payment(shop, 7)).replace(b":7,", b":%s," % amount)
        assert amount in content
        assert refusal(await ann.post("payments", content=content)) in REFUSED, amount
    for amount in AMOUNTS:
        for step in ("capture", "refund"):
            answer = await shop.post(f"payments/{held['id']}/{step}", content=b'{"amount_minor":%s}' % amount)
            assert refusal(answer) in REFUSED, amount
    assert await commerce.moved() == before


IMPOSSIBLE: list[tuple[dict[str, Any], str]] = [
    ({"currency": "ZZZ"}, "currency_refused"),
    ({"currency": "thb"}, "invalid_argument"),
    ({"currency": "THB "}, "invalid_argument"),
    ({"currency": None}, "invalid_argument"),
    ({"currency": "IDR"}, "proof_required"),  # there is no rate to say how much it is
    ({"payee": "me"}, "invalid_argument"),
    ({"intent": "take"}, "invalid_argument"),
    ({"capture": "never"}, "invalid_argument"),
    ({"expires_in_s": 59}, "invalid_argument"),
    ({"expires_in_s": 30 * 86_400 + 1}, "invalid_argument"),
    ({"note": "hello"}, "invalid_argument"),
    ({"fee_minor": 0}, "invalid_argument"),
    ({"payee": UUID(int=0)}, "wallet_not_found"),
]


async def test_a_payment_that_cannot_be_is_refused(commerce: CommerceWorld) -> None:
    ann, shop = await commerce.person(10_000), await commerce.person()
    before = await commerce.moved()
    for changed, code in IMPOSSIBLE:
        assert refusal(await ann.post("payments", ann.payment(shop, 100) | changed))[1] == code, changed
    assert await commerce.moved() == before


async def test_nobody_pays_themselves(commerce: CommerceWorld) -> None:
    ann = await commerce.person(10_000)
    before = await commerce.moved()
    assert refusal(await ann.post("payments", ann.payment(ann, 1))) == (400, "own_payee")
    assert refusal(await ann.post("payments", ann.request(ann, 1))) == (400, "own_payee")
    assert await commerce.moved() == before


async def test_a_hold_is_captured_once_and_never_above_nor_late_nor_after_its_end(commerce: CommerceWorld) -> None:
    ann, shop = await commerce.person(10_000), await commerce.person()
    voided, captured, late = [
        f"payments/{(await ann.post('payments', ann.payment(shop, 100, capture='later'))).json()['id']}"
        for _ in range(3)
    ]
    assert refusal(await shop.post(f"{voided}/capture", {"amount_minor": 101})) == (400, "amount_refused")
    await shop.post(f"{voided}/cancel")
    await shop.post(f"{captured}/capture", {"amount_minor": 99})
    await commerce.database.execute(
        "UPDATE payments SET expires_us = 1 WHERE payment_id = $1", UUID(late.rpartition("/")[2])
    )
    assert refusal(await shop.post(f"{late}/capture")) == (409, "payment_expired")
    before = await commerce.moved()
    assert refusal(await shop.post(f"{voided}/capture")) == (409, "payment_state")
    assert refusal(await shop.post(f"{captured}/capture")) == (409, "payment_state")
    assert refusal(await shop.post(f"{captured}/cancel")) == (409, "payment_state")
    assert refusal(await shop.post(f"{late}/capture")) == (409, "payment_expired")
    assert await commerce.moved() == before
    assert (await ann.balance(), await shop.balance()) == (9_901, 99)


async def test_a_request_ends_once(commerce: CommerceWorld) -> None:
    ann, shop = await commerce.person(10_000), await commerce.person()
    payment = (await shop.post("payments", shop.request(ann, 100))).json()
    path, before = f"payments/{payment['id']}", await commerce.moved()
    assert refusal(await shop.post(f"{path}/refund")) == (409, "payment_state")
    await ann.post(f"{path}/decline")
    assert refusal(await ann.post(f"{path}/approve", approval_of(payment))) == (409, "payment_state")
    assert refusal(await ann.post(f"{path}/decline")) == (409, "payment_state")
    assert await commerce.moved() == before


async def test_a_step_without_a_usable_key_is_refused(commerce: CommerceWorld) -> None:
    ann, shop = await commerce.person(10_000), await commerce.person()
    before = await commerce.moved()
    body = msgspec.json.encode(ann.payment(shop, 1))
    for key in ("", "k" * 256, "two words", "\u00e9"):
        token = commerce.sign(ann, "POST", "/v1/payments", key, body)
        answer = await commerce.send("POST", "/v1/payments", token, key, body)
        assert refusal(answer) == (400, "invalid_argument"), key
    assert await commerce.moved() == before
    assert (await ann.post("payments", ann.payment(shop, 1), key="k" * 255)).status_code == 201


BODIES: list[tuple[bytes, tuple[int, str]]] = [
    (b"", (400, "invalid_argument")),
    (b"null", (400, "invalid_argument")),
    (b"[]", (400, "invalid_argument")),
    (b"{", (400, "malformed")),
    (b"\xff\xfe", (400, "malformed")),
    (b"[" * 50_000, (400, "malformed")),
    (b'{"a":"' + b"x" * 2**20 + b'"}', (413, "too_large")),
]


async def test_a_body_that_is_none_is_refused(commerce: CommerceWorld) -> None:
    ann = await commerce.person(10_000)
    before = await commerce.moved()
    for content, refused in BODIES:
        assert refusal(await ann.post("payments", content=content)) == refused, content[:10]
    assert await commerce.moved() == before


async def test_a_step_has_no_other_fields(commerce: CommerceWorld) -> None:
    ann, shop = await commerce.person(10_000), await commerce.person()
    payment = (await shop.post("payments", shop.request(ann, 100))).json()["id"]
    for step in ("decline", "cancel", "capture", "refund"):
        assert refusal(await shop.post(f"payments/{payment}/{step}", {"why": "x"})) == (400, "invalid_argument")


async def test_what_is_nowhere_is_not_found(commerce: CommerceWorld) -> None:
    ann: Party = await commerce.person()
    unknown = UUID(bytes=new_id())
    assert refusal(await ann.ask("GET", "/v1/nothing"))[0] == 404
    assert refusal(await ann.ask("DELETE", f"/v1/payments/{unknown}"))[0] == 404
    assert refusal(await ann.ask("GET", "/v1/payments/one"))[0] == 404
    assert refusal(await ann.ask("GET", f"/v1/payments/{unknown}")) == (404, "payment_not_found")
    assert refusal(await ann.post(f"payments/{unknown}/cancel")) == (404, "payment_not_found")
    assert refusal(await ann.ask("GET", f"/v1/wallets/{unknown}/statement")) == (404, "wallet_not_found")
    for limit in ("0", "101", "x"):
        assert refusal(await ann.ask("GET", f"/v1/payments?limit={limit}")) == (400, "invalid_argument")
