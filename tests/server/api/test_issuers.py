"""Tokens of external issuers: accepted for their tenant, and refused like our own."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from protocol import ids
from protocol.close_codes import CloseCode
from protocol.errors import ErrorCode
from server.identity.claims import Claims
from server.identity.signing_keys import SigningKeys, new_pem
from server.refusals import RequestRefusedError
from storage.identity_rows import ExternalSignIn
from storage.postgres.sign_ins import SignInStore
from tests.support.api_world import ApiWorld, error, issuer, opened_api
from tests.support.clock import ManualClock

pytestmark = pytest.mark.anyio

SHOP = SigningKeys.from_pem(new_pem())


def publish(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document))


@pytest.fixture
def jwks(tmp_path: Path) -> Path:
    path = tmp_path / "keys of the shop.json"
    publish(path, SHOP.as_jwks())
    return path


@pytest.fixture
async def shop(database_url: str, clock: ManualClock, jwks: Path) -> AsyncIterator[ApiWorld]:
    """An API that accepts the shop's tokens for tenant 2."""
    async with opened_api(database_url, clock, identity=issuer(jwks.as_uri())) as world:
        yield world


def token(api: ApiWorld, keys: SigningKeys = SHOP, **change: Any) -> str:
    """A token of the shop, for an hour from now; None takes a claim away."""
    now_s = api.clock.wall_ms() // 1000
    claims = {
        "iss": "https://shop.example",
        "aud": "tchat-shop",
        "sub": "customer-17",
        "name": "Nok",
        "iat": now_s,
        "exp": now_s + 3600,
        **change,
    }
    payload = json.dumps({name: value for name, value in claims.items() if value is not None}).encode()
    return jwt.PyJWS().encode(payload, keys.signing, algorithm="EdDSA", headers={"kid": keys.kid})


async def verify(api: ApiWorld, text: str, device: bytes | None = None) -> Claims:
    return await api.identity.tokens.verify(text, device)


async def refusal(api: ApiWorld, text: str, device: bytes | None = None) -> ErrorCode:
    with pytest.raises(RequestRefusedError) as refused:
        await verify(api, text, device)
    return refused.value.code


async def test_an_external_person_belongs_to_the_tenant_and_has_a_self_dialog(shop: ApiWorld) -> None:
    device = ids.new_id()
    claims = await verify(shop, token(shop), device)
    assert (claims.tenant, claims.device) == (2, device)
    assert claims.expires_at_s == shop.clock.wall_ms() // 1000 + 3600
    row = await shop.pool.fetchrow("SELECT * FROM principals NATURAL JOIN people")
    assert row is not None
    assert (row["principal_id"], row["external_id"], row["display_name"]) == (claims.principal, "customer-17", "Nok")
    head = await shop.pool.fetchrow("SELECT * FROM heads")
    assert head is not None
    assert (head["dialog_id"], head["tenant_id"]) == (ids.self_dialog_id(claims.principal), 2)


async def test_an_external_token_is_cached_for_its_device_alone(shop: ApiWorld) -> None:
    text, one, other = token(shop), ids.new_id(), ids.new_id()
    claims = await verify(shop, text, one)
    assert shop.identity.tokens.find_cached(text, one) is claims
    assert shop.identity.tokens.find_cached(text) is None
    assert shop.identity.tokens.find_cached(text, other) is None
    assert (await verify(shop, text, other)).sign_in != claims.sign_in
    assert await refusal(shop, text) is ErrorCode.INVALID_ARGUMENT


async def test_a_token_that_names_its_device_is_believed_over_the_client(shop: ApiWorld) -> None:
    device = ids.new_id()
    text = token(shop, device=ids.to_text(device))
    assert (await verify(shop, text, ids.new_id())).device == device
    claims = await verify(shop, text)
    assert claims.device == device
    assert shop.identity.tokens.find_cached(text) is claims


async def test_a_crowd_of_newcomers_takes_few_connections_to_the_store(
    shop: ApiWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = [0]
    sign_in = SignInStore.sign_in_by_issuer

    async def counted(*arguments: Any, **named: Any) -> ExternalSignIn:
        at_once.append(at_once[-1] + 1)
        try:
            return await sign_in(*arguments, **named)
        finally:
            at_once.append(at_once[-1] - 1)

    monkeypatch.setattr(SignInStore, "sign_in_by_issuer", counted)
    await asyncio.gather(*(verify(shop, token(shop, sub=f"newcomer {at}"), ids.new_id()) for at in range(12)))
    assert max(at_once) == 4
    assert len(at_once) == 1 + 2 * 12


async def test_a_device_keeps_its_sign_in_over_its_tokens(shop: ApiWorld) -> None:
    device = ids.new_id()
    first = await verify(shop, token(shop), device)
    shop.clock.advance(1800)
    second = await verify(shop, token(shop), device)
    assert first.sign_in == second.sign_in
    many = await asyncio.gather(*(verify(shop, token(shop, n=at), device) for at in range(5)))
    assert {claims.sign_in for claims in many} == {first.sign_in}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"aud": "tchat"}, ErrorCode.TOKEN_INVALID),
        ({"aud": None}, ErrorCode.TOKEN_INVALID),
        ({"iss": "https://other.example"}, ErrorCode.TOKEN_INVALID),
        ({"iss": "tchat"}, ErrorCode.TOKEN_INVALID),
        ({"sub": None}, ErrorCode.TOKEN_INVALID),
        ({"sub": ""}, ErrorCode.TOKEN_INVALID),
        ({"sub": 17}, ErrorCode.TOKEN_INVALID),
        ({"sub": "x" * 256}, ErrorCode.TOKEN_INVALID),
        ({"sub": "nul\x00"}, ErrorCode.TOKEN_INVALID),
        ({"sub": "\ud800"}, ErrorCode.TOKEN_INVALID),
        ({"exp": 1}, ErrorCode.TOKEN_EXPIRED),
        ({"exp": None}, ErrorCode.TOKEN_INVALID),
        ({"iat": None}, ErrorCode.TOKEN_INVALID),
        ({"iat": "now"}, ErrorCode.TOKEN_INVALID),
        ({"iat": 2**40}, ErrorCode.TOKEN_INVALID),
        ({"iat": float("nan")}, ErrorCode.TOKEN_INVALID),
        ({"iat": 1_700_000_000}, ErrorCode.TOKEN_EXPIRED),
        ({"nbf": 2**40}, ErrorCode.TOKEN_INVALID),
        ({"device": "no uuid"}, ErrorCode.TOKEN_INVALID),
        ({"device": 7}, ErrorCode.TOKEN_INVALID),
        ({"device": ids.to_text(ids.NIL)}, ErrorCode.INVALID_ARGUMENT),
    ],
)
async def test_a_wrong_claim_is_refused_and_makes_nobody(
    shop: ApiWorld, change: dict[str, Any], code: ErrorCode
) -> None:
    assert await refusal(shop, token(shop, **change), ids.new_id()) is code
    assert await shop.pool.fetchval("SELECT count(*) FROM principals") == 0


async def test_an_issuer_speaks_for_nobody_else(shop: ApiWorld) -> None:
    own = SigningKeys.from_pem(new_pem())
    assert await refusal(shop, token(shop, own), ids.new_id()) is ErrorCode.TOKEN_INVALID
    ours: dict[str, Any] = {"tenant": 1, "sign_in": ids.to_text(ids.new_id()), "device": ids.to_text(ids.new_id())}
    claims = await verify(shop, token(shop, SHOP, **ours))
    assert claims.tenant == 2
    assert ids.to_text(claims.sign_in) != ours["sign_in"]


async def test_names_that_cannot_be_shown_are_left_out(shop: ApiWorld) -> None:
    for at, name in enumerate(["two\nlines", 7, ["Nok"], "\ud800"]):
        await verify(shop, token(shop, sub=f"c{at}", name=name), ids.new_id())
    await verify(shop, token(shop, sub="long", name="x" * 500), ids.new_id())
    names = await shop.pool.fetch("SELECT display_name FROM people ORDER BY display_name")
    assert [row["display_name"] for row in names] == [""] * 4 + ["x" * 100]


async def test_an_ended_sign_in_stays_out_until_the_issuer_gives_a_newer_token(shop: ApiWorld) -> None:
    device = ids.new_id()
    text = token(shop)
    claims = await verify(shop, text, device)
    device_header = {"Tchat-Device": ids.to_text(device)}
    assert (await shop.ask("GET", "/v1/me", token=text, headers=device_header)).status_code == 200
    shop.clock.advance(5)
    await shop.identity.sign_out(claims)
    assert shop.sessions.closed == [(ids.to_text(claims.sign_in), CloseCode.SIGNED_OUT)]
    assert error(await shop.ask("GET", "/v1/me", token=text, headers=device_header)) == (401, "signed_out")
    again = token(shop, iat=shop.clock.wall_ms() // 1000 - 1)
    assert await refusal(shop, again, device) is ErrorCode.SIGNED_OUT
    shop.clock.advance(1)
    newer = await verify(shop, token(shop), device)
    assert newer.sign_in != claims.sign_in


async def test_a_sixth_device_ends_the_oldest_sign_in_and_names_the_reason(shop: ApiWorld) -> None:
    first = await verify(shop, token(shop), ids.new_id())
    for _ in range(5):
        shop.clock.advance(1)
        await verify(shop, token(shop), ids.new_id())
    assert shop.sessions.closed == [(ids.to_text(first.sign_in), CloseCode.TOO_MANY_SIGN_INS)]


async def test_the_device_of_another_person_is_refused(shop: ApiWorld) -> None:
    device = ids.new_id()
    await verify(shop, token(shop), device)
    assert await refusal(shop, token(shop, sub="customer-18"), device) is ErrorCode.WRONG_PERSON


async def test_a_suspended_person_is_refused_whatever_the_issuer_says(shop: ApiWorld) -> None:
    claims = await verify(shop, token(shop), ids.new_id())
    await shop.identity.profiles.suspend(2, ids.new_id(), claims.principal)
    assert await refusal(shop, token(shop, n=1), ids.new_id()) is ErrorCode.SUSPENDED


async def test_one_token_on_very_many_devices_is_limited(shop: ApiWorld) -> None:
    text = token(shop)
    for _ in range(300):
        await verify(shop, text, ids.new_id())
    assert await refusal(shop, text, ids.new_id()) is ErrorCode.RATE_LIMITED


async def test_the_database_gone_is_temporary(shop: ApiWorld) -> None:
    await shop.pool.close()
    assert await refusal(shop, token(shop), ids.new_id()) is ErrorCode.UNAVAILABLE


async def test_rsa_and_elliptic_keys_serve_and_decide_the_algorithm(shop: ApiWorld, jwks: Path) -> None:
    rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    ec_key = ec.generate_private_key(ec.SECP256R1())
    published = [
        {**json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(rsa_key.public_key())), "kid": "r", "use": "sig"},
        {**json.loads(jwt.algorithms.ECAlgorithm.to_jwk(ec_key.public_key())), "kid": "e"},
        {"kty": "oct", "kid": "o", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA"},
    ]
    publish(jwks, {"keys": published})
    claims = jwt.decode(token(shop), options={"verify_signature": False})
    secret = b"secret-secret-secret-secret-secret"
    for key, algorithm, kid, good in (
        (rsa_key, "RS256", "r", True),
        (ec_key, "ES256", "e", True),
        (rsa_key, "RS512", "r", False),
        (rsa_key, "RS256", "e", False),
        (secret, "HS256", "o", False),
        (secret, "HS256", "r", False),
    ):
        text = jwt.encode(claims, key, algorithm=algorithm, headers={"kid": kid})
        if good:
            assert (await verify(shop, text, ids.new_id())).tenant == 2
        else:
            assert await refusal(shop, text, ids.new_id()) is ErrorCode.TOKEN_INVALID
