"""What proves a large payment: a signature over a send, a step-up of the platform; and who asks too often."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import msgspec
import pytest

from protocol.commerce.contract import TOKEN_LIFE_S, Approval, NewPayment, approval_text, send_text
from server.config.settings import Config
from server.identity.signing_keys import SigningKeys, new_pem
from storage.commerce.api_key_store import ApiKeyStore, Right
from storage.postgres.pool import open_pool
from tests.support.commerce_world import STEP_UP_URL, TENANT, CommerceWorld, approval_of, opened_world, refusal

pytestmark = pytest.mark.anyio

ABOVE = 500_001
NOT_PROVEN = (403, "proof_required")
LIMITED = (429, "rate_limited")


def settings(**changed: Any) -> Config:
    """The configuration of a service."""
    return msgspec.structs.replace(
        Config(), commerce_service=msgspec.structs.replace(Config().commerce_service, **changed)
    )


@pytest.fixture
async def stepping(money_url: str) -> AsyncIterator[CommerceWorld]:
    """A service that takes step-ups."""
    async with opened_world(money_url, settings(step_up_jwks_url=STEP_UP_URL)) as world:
        yield world


def text_of(payment: dict[str, Any]) -> bytes:
    """What is proven of an approval."""
    return approval_text(UUID(payment["id"]), msgspec.convert(approval_of(payment), Approval))


async def test_a_large_send_is_proven_by_a_signature_over_its_fields_and_its_key(commerce: CommerceWorld) -> None:
    ann, shop = await commerce.person(3_000_000), await commerce.person()
    body = ann.payment(shop, ABOVE)
    assert refusal(await ann.post("payments", body)) == NOT_PROVEN
    proven = ann.prove_send("k1", body)
    changes: tuple[dict[str, Any], ...] = (
        {"amount_minor": ABOVE + 1},
        {"payee": (await commerce.person()).id},
        {"capture": "later"},
        {"order": ann.id},
        {"dialog": ann.id},
        {"expires_in_s": 60},
    )
    for number, changed in enumerate(changes):
        key = f"changed.{number}"
        assert refusal(await ann.post("payments", ann.prove_send(key, body) | changed, key=key)) == NOT_PROVEN
    assert refusal(await ann.post("payments", proven, key="k2")) == NOT_PROVEN
    forged = shop.prove_send("k3", body)["proof"] | {"device": ann.device}
    assert refusal(await ann.post("payments", {**body, "proof": forged}, key="k3")) == NOT_PROVEN
    assert await shop.balance() == 0
    assert (await ann.post("payments", proven, key="k1")).json()["state"] == "paid"
    assert (await ann.post("payments", proven, key="k1")).json()["state"] == "paid"
    assert await shop.balance() == ABOVE


async def test_a_step_up_of_the_platform_proves_an_approval_and_a_send(stepping: CommerceWorld) -> None:
    ann, shop = await stepping.person(3_000_000), await stepping.person()
    payment = (await shop.post("payments", shop.request(ann, ABOVE))).json()
    proven = {**approval_of(payment), "proof": ann.step_up(text_of(payment))}
    first = await ann.post(f"payments/{payment['id']}/approve", proven, key="k")
    again = await ann.post(f"payments/{payment['id']}/approve", proven, key="k")
    assert (first.json()["state"], again.json()) == ("paid", first.json())
    body = ann.payment(shop, ABOVE)
    sent = {**body, "proof": ann.step_up(send_text("s", msgspec.convert(body, NewPayment)))}
    assert (await ann.post("payments", sent, key="s")).json()["state"] == "paid"
    assert await shop.balance() == 2 * ABOVE


async def test_a_step_up_is_for_one_request(stepping: CommerceWorld) -> None:
    ann, shop = await stepping.person(3_000_000), await stepping.person()
    one, other = [(await shop.post("payments", shop.request(ann, ABOVE))).json() for _ in range(2)]
    proof = ann.step_up(text_of(one), jti="once")
    same = ann.step_up(text_of(other), jti="once")
    assert (
        refusal(await ann.post(f"payments/{other['id']}/approve", approval_of(other) | {"proof": proof})) == NOT_PROVEN
    )
    assert (await ann.post(f"payments/{one['id']}/approve", approval_of(one) | {"proof": proof})).status_code == 200
    assert (
        refusal(await ann.post(f"payments/{other['id']}/approve", approval_of(other) | {"proof": same})) == NOT_PROVEN
    )
    fresh = ann.step_up(text_of(other))
    assert (await ann.post(f"payments/{other['id']}/approve", approval_of(other) | {"proof": fresh})).status_code == 200


@pytest.mark.parametrize(
    "changed",
    [
        {"aud": "commerce"},
        {"sub": str(UUID(int=1))},
        {"tenant": 2},
        {"digest": "x"},
        {"digest": None},
        {"jti": None},
        {"jti": ""},
        {"iat": None},
        {"exp": 1},
        {"exp": 2**40},
        {"signed_by": SigningKeys.from_pem(new_pem())},
    ],
)
async def test_what_is_no_step_up_proves_nothing(stepping: CommerceWorld, changed: dict[str, Any]) -> None:
    ann, shop = await stepping.person(3_000_000), await stepping.person()
    payment = (await shop.post("payments", shop.request(ann, ABOVE))).json()
    approval = approval_of(payment) | {"proof": ann.step_up(text_of(payment), **changed)}
    assert refusal(await ann.post(f"payments/{payment['id']}/approve", approval)) == NOT_PROVEN
    assert await shop.balance() == 0


async def test_a_step_up_ends_after_a_minute(stepping: CommerceWorld) -> None:
    ann, shop = await stepping.person(3_000_000), await stepping.person()
    payment = (await shop.post("payments", shop.request(ann, ABOVE))).json()
    approval = approval_of(payment) | {"proof": ann.step_up(text_of(payment))}
    stepping.clock.advance(TOKEN_LIFE_S)
    assert refusal(await ann.post(f"payments/{payment['id']}/approve", approval)) == NOT_PROVEN


async def test_where_the_platform_has_no_keys_a_step_up_proves_nothing(commerce: CommerceWorld) -> None:
    ann, shop = await commerce.person(3_000_000), await commerce.person()
    payment = (await shop.post("payments", shop.request(ann, ABOVE))).json()
    approval = approval_of(payment) | {"proof": ann.step_up(text_of(payment))}
    assert refusal(await ann.post(f"payments/{payment['id']}/approve", approval)) == NOT_PROVEN


async def test_a_spent_step_up_is_forgotten_when_it_has_long_ended(stepping: CommerceWorld) -> None:
    spend = "SELECT spend_step_up($1, $2)"
    one, other, key = (UUID(int=number) for number in (1, 2, 3))
    assert await stepping.database.fetchval(spend, one, key)
    assert await stepping.database.fetchval(spend, one, key)
    assert not await stepping.database.fetchval(spend, one, other)
    await stepping.database.execute("UPDATE spent_step_ups SET spent_us = spent_us - 600000000")
    assert await stepping.database.fetchval(spend, other, key)
    kept = await stepping.database.fetch("SELECT step_up_id FROM spent_step_ups")
    assert [row[0] for row in kept] == [other]


async def test_who_asks_too_often_waits_and_nobody_else_does(money_url: str) -> None:
    config = settings(requests_per_caller_per_s=2, requests_per_service_per_s=50)
    async with opened_world(money_url, config) as world:
        ann, shop = await world.person(10_000), await world.person()
        answers = [await ann.post("payments", ann.payment(shop, 1), key=f"k{number}") for number in range(5)]
        assert [answer.status_code for answer in answers] == [201] * 4 + [429]
        assert refusal(answers[-1]) == LIMITED
        assert 0 < answers[-1].json()["retry_after_s"] <= 0.5
        assert (await shop.ask("GET", "/v1/wallets")).status_code == 200
        world.clock.advance(0.5)
        assert (await ann.post("payments", ann.payment(shop, 1), key="k4")).status_code == 201
        assert await shop.balance() == 5


async def test_a_key_that_has_ended_opens_nothing_and_its_name_goes_on(commerce: CommerceWorld, money_url: str) -> None:
    shop = await commerce.person(business=True)
    service = await commerce.service(Right.PAYMENTS, shop, name="till")
    assert (await service.ask("GET", f"/v1/payments?party={shop.id}")).status_code == 200
    async with await open_pool(money_url, size=1, statement_timeout_s=5) as pool:
        store = ApiKeyStore(pool)
        assert await store.end_key(TENANT, "till")
        assert not await store.end_key(TENANT, "till")
        assert not await store.end_key(2, "admin")
    assert refusal(await service.ask("GET", f"/v1/payments?party={shop.id}")) == (401, "token_invalid")
    again = await commerce.service(Right.PAYMENTS, shop, name="till")
    assert again.id == service.id
    ended = await commerce.database.fetchval("SELECT count(*) FROM audit WHERE action = 'end_api_key'")
    assert ended == 1
