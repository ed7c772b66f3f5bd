"""Tokens: one is for one request, and an access token only reads."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from protocol.commerce.contract import PERSON_AUDIENCE, TOKEN_LIFE_S
from server.identity.signing_keys import SigningKeys, new_pem
from tests.support.commerce_world import CommerceWorld, refusal

pytestmark = pytest.mark.anyio

INVALID = (401, "token_invalid")
ACCESS: dict[str, Any] = {"iss": "tchat", "aud": "tchat", "digest": None}


async def test_a_token_is_for_its_method_path_key_and_body(commerce: CommerceWorld) -> None:
    ann, shop = await commerce.person(10_000), await commerce.person()
    body, other = (msgspec.json.encode(ann.payment(shop, amount)) for amount in (100, 101))
    before = await commerce.moved()
    token = commerce.sign(ann, "POST", "/v1/payments", "k", body)
    assert refusal(await commerce.send("POST", "/v1/payments", token, "k", other)) == INVALID
    assert refusal(await commerce.send("POST", "/v1/payments", token, "l", body)) == INVALID
    assert refusal(await commerce.send("POST", "/v1/payments?x", token, "k", body)) == INVALID
    assert refusal(await commerce.send("POST", "/v1/wallets", token, "k", body)) == INVALID
    assert refusal(await commerce.send("GET", "/v1/payments", token, "k", body)) == INVALID
    assert await commerce.moved() == before
    first = await commerce.send("POST", "/v1/payments", token, "k", body)
    again = await commerce.send("POST", "/v1/payments", token, "k", body)
    assert first.json() == again.json()
    assert (await commerce.moved())[1] == before[1] + 1


UNUSABLE: list[tuple[dict[str, Any], tuple[int, str]]] = [
    ({"aud": "tchat"}, INVALID),
    ({"digest": None}, INVALID),
    ({"digest": 7}, INVALID),
    ({"sub": "ann"}, INVALID),
    ({"sub": None}, INVALID),
    ({"tenant": "1"}, INVALID),
    ({"device": None}, INVALID),
    ({"device_key": "*"}, INVALID),
    ({"exp": None}, INVALID),
    ({"iat": None}, INVALID),
    ({"iat": 1}, INVALID),
    ({"exp": 1}, (401, "token_expired")),
    ({"exp": 2**40}, INVALID),
    ({"signed_by": SigningKeys.from_pem(new_pem())}, INVALID),
    ({**ACCESS}, INVALID),
]


async def test_a_token_that_is_none_moves_nothing(commerce: CommerceWorld) -> None:
    ann, shop = await commerce.person(10_000), await commerce.person()
    before = await commerce.moved()
    for changed, refused in UNUSABLE:
        assert refusal(await ann.post("payments", ann.payment(shop, 100), **changed)) == refused, changed
    assert await commerce.moved() == before


async def test_a_token_lives_for_a_minute(commerce: CommerceWorld) -> None:
    ann = await commerce.person(10_000)
    token = commerce.sign(ann, "GET", "/v1/wallets", "", b"")
    commerce.clock.advance(TOKEN_LIFE_S - 1)
    assert (await commerce.send("GET", "/v1/wallets", token, "", b"")).status_code == 200
    commerce.clock.advance(1)
    assert refusal(await commerce.send("GET", "/v1/wallets", token, "", b"")) == (401, "token_expired")


async def test_an_access_token_reads_what_is_its_own(commerce: CommerceWorld) -> None:
    ann = await commerce.person(10_000)
    assert (await ann.ask("GET", "/v1/wallets", **ACCESS)).status_code == 200
    assert refusal(await ann.ask("GET", "/v1/wallets", **{**ACCESS, "iss": "another"})) == INVALID
    assert refusal(await ann.ask("GET", "/v1/wallets", **{**ACCESS, "aud": "another"})) == INVALID
    assert refusal(await ann.post("wallets", {"currency": "IDR"}, **ACCESS)) == INVALID


async def test_what_a_person_asks_without_a_conversation_begins_no_payment(commerce: CommerceWorld) -> None:
    ann, shop = await commerce.person(10_000), await commerce.person()
    direct: dict[str, Any] = {"aud": PERSON_AUDIENCE}
    before = await commerce.moved()
    for new in (ann.payment(shop, 100), ann.payment(shop, 100, intent="request")):
        assert refusal(await ann.post("payments", new, **direct)) == (403, "not_allowed")
    assert await commerce.moved() == before
    assert (await ann.post("wallets", {"currency": "IDR"}, **direct)).status_code == 201
    assert (await ann.ask("GET", "/v1/wallets", **direct)).status_code == 200


async def test_what_is_no_token_is_refused(commerce: CommerceWorld) -> None:
    for token in ("", "x", "a.b.c", "tck_unknown", "x" * 10_000):
        assert refusal(await commerce.send("GET", "/v1/wallets", token, "", b"")) == INVALID


async def test_another_tenant_sees_nothing(commerce: CommerceWorld) -> None:
    ann, shop = await commerce.person(10_000), await commerce.person()
    payment = (await ann.post("payments", ann.payment(shop, 100))).json()["id"]
    assert (await ann.ask("GET", "/v1/wallets", tenant=2)).json() == {"wallets": []}
    assert refusal(await ann.ask("GET", f"/v1/payments/{payment}", tenant=2)) == (404, "payment_not_found")
    assert refusal(await shop.post(f"payments/{payment}/refund", tenant=2)) == (404, "payment_not_found")
    assert (await ann.ask("GET", "/v1/payments", tenant=2)).json() == {"payments": []}
