"""Tokens with which people ask commerce themselves: one is for one request, and begins no payment."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest

from protocol.commerce.contract import PERSON_AUDIENCE, TOKEN_LIFE_S, request_digest
from protocol.ids import from_text
from server.config.payment_settings import CommerceSettings
from server.config.settings import RateSettings
from tests.support.api_world import ANN, ApiWorld, Me, error, opened_api
from tests.support.clock import ManualClock

pytestmark = pytest.mark.anyio

COMMERCE = CommerceSettings(url="http://commerce.test")
DIGEST = request_digest("POST", "/v1/orders", "key", b"{}")


@pytest.fixture
async def paying(database_url: str, clock: ManualClock) -> AsyncIterator[ApiWorld]:
    """A chat that knows a commerce."""
    rates = RateSettings(commerce_tokens_per_person_per_h=2)
    async with opened_api(database_url, clock, commerce=COMMERCE, limits=rates) as world:
        yield world


async def claims_of(me: Me) -> dict[str, Any]:
    """What the token says that somebody gets, whose signature a key of the chat has made."""
    answer = await me.ask("POST", "/v1/commerce-tokens", {"digest": DIGEST})
    assert answer.status_code == 201, answer.text
    token = answer.json()["token"]
    keys = jwt.PyJWKSet.from_dict((await me.api.ask("GET", "/v1/jwks")).json())
    kid = jwt.get_unverified_header(token)["kid"]
    options: jwt.types.Options = {"verify_exp": False, "verify_iat": False}
    read: dict[str, Any] = jwt.decode(
        token, keys[kid].key, algorithms=["EdDSA"], audience=PERSON_AUDIENCE, options=options
    )
    return read


async def test_a_token_names_the_person_their_device_and_one_request(paying: ApiWorld) -> None:
    me = await paying.sign_in(ANN)
    read = await claims_of(me)
    assert (read["sub"], read["device"], read["digest"]) == (me.principal, me.device, DIGEST)
    assert read["exp"] - read["iat"] == TOKEN_LIFE_S
    assert "device_key" not in read


async def test_a_token_names_the_key_with_which_the_device_signs(paying: ApiWorld) -> None:
    me = await paying.sign_in(ANN)
    key = bytes(range(32))
    await paying.pool.execute(
        "INSERT INTO device_keys (device_id, principal_id, generation, keys, curve25519, ed25519)"
        " VALUES ($1, $2, 1, '', '', $3)",
        from_text(me.device),
        from_text(me.principal),
        key,
    )
    assert base64.b64decode((await claims_of(me))["device_key"]) == key


async def test_a_bot_gets_no_token(paying: ApiWorld) -> None:
    me = await paying.sign_in(ANN)
    await paying.pool.execute("UPDATE principals SET type = 2 WHERE principal_id = $1", from_text(me.principal))
    assert error(await me.ask("POST", "/v1/commerce-tokens", {"digest": DIGEST})) == (403, "not_allowed")


async def test_so_many_tokens_an_hour_are_made_for_a_person(paying: ApiWorld) -> None:
    me = await paying.sign_in(ANN)
    answers = [await me.ask("POST", "/v1/commerce-tokens", {"digest": DIGEST}) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [201, 201, 429]
    assert error(await paying.ask("POST", "/v1/commerce-tokens", {"digest": DIGEST})) == (401, "token_invalid")


@pytest.mark.parametrize("digest", ["", "x" * 42, "x" * 44, "*" * 43, "x" * 42 + "=", "x" * 43 + "\n", 7, None])
async def test_what_is_no_digest_is_refused(paying: ApiWorld, digest: Any) -> None:
    me = await paying.sign_in(ANN)
    assert error(await me.ask("POST", "/v1/commerce-tokens", {"digest": digest})) == (400, "invalid_argument")


async def test_without_a_commerce_there_are_no_tokens(api: ApiWorld) -> None:
    me = await api.sign_in(ANN)
    answer = await me.ask("POST", "/v1/commerce-tokens", {"digest": DIGEST})
    assert error(answer) == (503, "unavailable")
    assert "commerce.url" in answer.json()["message"]
