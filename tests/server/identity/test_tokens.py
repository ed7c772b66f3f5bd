"""Access tokens admit exactly those for whom they were signed, and only for their time."""

import asyncio
import base64
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocol import ids
from protocol.errors import ErrorCode
from server.identity.claims import Claims
from server.identity.signing_keys import SigningKeyError, SigningKeys, new_pem
from server.identity.tokens import Tokens
from server.refusals import RequestRefusedError
from tests.support.clock import ManualClock

pytestmark = pytest.mark.anyio

PRINCIPAL, DEVICE, SIGN_IN = ids.new_id(), ids.new_id(), ids.new_id()


@pytest.fixture
def keys() -> SigningKeys:
    return SigningKeys.from_pem(new_pem())


@pytest.fixture
def tokens(keys: SigningKeys, clock: ManualClock) -> Tokens:
    return make_tokens(keys, clock)


def make_tokens(keys: SigningKeys, clock: ManualClock, **other: Any) -> Tokens:
    return Tokens(keys, clock, **{"issuer": "tchat", "audience": "tchat", "ttl_s": 3600, **other})


def issue(tokens: Tokens) -> str:
    return tokens.issue(tenant=1, principal=PRINCIPAL, device=DEVICE, sign_in=SIGN_IN)


def claims_of(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


def signed(keys: SigningKeys, claims: dict[str, Any], **headers: Any) -> str:
    """Not `jwt.encode`, which refuses to write some of what an attacker would."""
    payload = json.dumps(claims).encode()
    return jwt.PyJWS().encode(payload, keys.signing, algorithm="EdDSA", headers={"kid": keys.kid, **headers})


async def refusal(tokens: Tokens, token: str) -> ErrorCode:
    with pytest.raises(RequestRefusedError) as refused:
        await tokens.verify(token)
    assert tokens.find_cached(token) is None
    return refused.value.code


async def test_a_token_says_who_speaks(tokens: Tokens, clock: ManualClock) -> None:
    claims = await tokens.verify(issue(tokens))
    assert claims == Claims(
        tenant=1,
        principal=PRINCIPAL,
        device=DEVICE,
        sign_in=SIGN_IN,
        expires_at_s=clock.wall_ms() // 1000 + 3600,
    )


def test_two_tokens_of_one_moment_differ(tokens: Tokens) -> None:
    assert issue(tokens) != issue(tokens)


async def test_a_token_is_cached_after_it_was_verified_and_not_before(tokens: Tokens) -> None:
    token = issue(tokens)
    assert tokens.find_cached(token) is None
    claims = await tokens.verify(token)
    assert tokens.find_cached(token) is claims
    assert await tokens.verify(token) is claims


async def test_few_of_many_tokens_are_verified_in_one_turn_of_the_loop(tokens: Tokens) -> None:
    waiting = [issue(tokens) for _ in range(20)]
    tasks = [asyncio.create_task(tokens.verify(token)) for token in waiting]
    verified = [0]
    while verified[-1] < len(waiting):
        await asyncio.sleep(0)
        verified.append(sum(tokens.find_cached(token) is not None for token in waiting))
        assert verified[-1] - verified[-2] <= 2
    await asyncio.gather(*tasks)


async def test_a_cached_token_does_not_outlive_itself(tokens: Tokens, clock: ManualClock) -> None:
    token = issue(tokens)
    await tokens.verify(token)
    clock.advance(3599)
    assert tokens.find_cached(token) is not None
    clock.advance(1)
    assert tokens.find_cached(token) is None
    assert await refusal(tokens, token) is ErrorCode.TOKEN_EXPIRED


async def test_the_cache_is_bounded_and_keeps_what_was_used_last(keys: SigningKeys, clock: ManualClock) -> None:
    tokens = make_tokens(keys, clock, cache_tokens_max=2)
    minted = []
    for _ in range(3):
        clock.advance(1)
        minted.append(issue(tokens))
    await tokens.verify(minted[0])
    await tokens.verify(minted[1])
    assert tokens.find_cached(minted[0]) is not None
    await tokens.verify(minted[2])
    assert [tokens.find_cached(token) is not None for token in minted] == [True, False, True]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"aud": "another"}, ErrorCode.TOKEN_INVALID),
        ({"aud": ["another"]}, ErrorCode.TOKEN_INVALID),
        ({"aud": None}, ErrorCode.TOKEN_INVALID),
        ({"iss": "another"}, ErrorCode.TOKEN_INVALID),
        ({"iss": ["tchat"]}, ErrorCode.TOKEN_INVALID),
        ({"iss": None}, ErrorCode.TOKEN_INVALID),
        ({"sub": None}, ErrorCode.TOKEN_INVALID),
        ({"sub": "no id"}, ErrorCode.TOKEN_INVALID),
        ({"sub": 7}, ErrorCode.TOKEN_INVALID),
        ({"device": None}, ErrorCode.TOKEN_INVALID),
        ({"device": 7}, ErrorCode.TOKEN_INVALID),
        ({"sign_in": ""}, ErrorCode.TOKEN_INVALID),
        ({"tenant": "1"}, ErrorCode.TOKEN_INVALID),
        ({"exp": None}, ErrorCode.TOKEN_INVALID),
        ({"exp": "never"}, ErrorCode.TOKEN_INVALID),
        ({"exp": True}, ErrorCode.TOKEN_INVALID),
        ({"exp": float("inf")}, ErrorCode.TOKEN_INVALID),
        ({"exp": float("nan")}, ErrorCode.TOKEN_INVALID),
        ({"exp": 10**30}, ErrorCode.TOKEN_INVALID),
        ({"exp": 1}, ErrorCode.TOKEN_EXPIRED),
        ({"nbf": 2**40}, ErrorCode.TOKEN_INVALID),
        ({"nbf": "soon"}, ErrorCode.TOKEN_INVALID),
    ],
)
async def test_a_well_signed_token_with_a_wrong_claim_is_refused(
    tokens: Tokens, keys: SigningKeys, change: dict[str, Any], code: ErrorCode
) -> None:
    claims = {**claims_of(issue(tokens)), **change}
    token = signed(keys, {name: value for name, value in claims.items() if value is not None})
    assert await refusal(tokens, token) is code


async def test_a_token_of_a_strange_key_is_refused_whatever_kid_it_names(tokens: Tokens, keys: SigningKeys) -> None:
    stranger = SigningKeys.from_pem(new_pem())
    claims = claims_of(issue(tokens))
    for kid in (keys.kid, stranger.kid, "", "../../etc/passwd"):
        assert await refusal(tokens, signed(stranger, claims, kid=kid)) is ErrorCode.TOKEN_INVALID


async def test_a_key_in_the_header_is_not_believed(tokens: Tokens) -> None:
    stranger = SigningKeys.from_pem(new_pem())
    header = {"kid": stranger.kid, "jwk": stranger.as_jwks()["keys"][0]}
    assert await refusal(tokens, signed(stranger, claims_of(issue(tokens)), **header)) is ErrorCode.TOKEN_INVALID


def segment(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize("algorithm", ["none", "None", "nOnE", ""])
@pytest.mark.parametrize("signature", ["", "AAAA"])
async def test_an_unsigned_token_is_refused(tokens: Tokens, keys: SigningKeys, algorithm: str, signature: str) -> None:
    header = segment({"alg": algorithm, "typ": "JWT", "kid": keys.kid})
    token = f"{header}.{segment(claims_of(issue(tokens)))}.{signature}"
    assert await refusal(tokens, token) is ErrorCode.TOKEN_INVALID


async def test_the_public_key_is_no_shared_secret(tokens: Tokens, keys: SigningKeys) -> None:
    import hashlib
    import hmac

    public = keys.signing.public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    for secret in (pem, public.public_bytes_raw()):
        head = f"{segment({'alg': 'HS256', 'kid': keys.kid})}.{segment(claims_of(issue(tokens)))}"
        mac = hmac.new(secret, head.encode(), hashlib.sha256).digest()
        token = f"{head}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
        assert await refusal(tokens, token) is ErrorCode.TOKEN_INVALID


async def test_a_token_altered_anywhere_is_refused(tokens: Tokens) -> None:
    token = issue(tokens)
    for at in range(0, len(token), 7):
        other = "A" if token[at] != "A" else "B"
        altered = token[:at] + other + token[at + 1 :]
        if altered.rstrip("=") != token:
            assert await refusal(tokens, altered) in {ErrorCode.TOKEN_INVALID, ErrorCode.TOKEN_EXPIRED}


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "a.b.c",
        "....",
        "\x00",
        "\udcff.\udcff.\udcff",
        "ключ.ключ.ключ",
        "A" * 9000,
        segment([]) + "." + segment([]) + ".",
        segment({"alg": "EdDSA", "kid": []}) + "." + segment({"iss": "tchat"}) + ".AAAA",
        segment({"alg": "EdDSA", "crit": ["exp"]}) + "." + segment({"iss": "tchat"}) + ".AAAA",
        segment({"alg": "EdDSA"}) + "." + base64.urlsafe_b64encode(b"[" * 5000).decode() + ".AAAA",
        base64.urlsafe_b64encode(b"[" * 5000).decode() + ".AAAA.AAAA",
    ],
)
async def test_what_is_no_token_is_refused(tokens: Tokens, token: str) -> None:
    assert await refusal(tokens, token) is ErrorCode.TOKEN_INVALID


async def test_tokens_of_a_former_key_are_accepted_until_it_is_dropped(clock: ManualClock) -> None:
    old_pem, new = new_pem(), new_pem()
    token = issue(make_tokens(SigningKeys.from_pem(old_pem), clock))
    both = make_tokens(SigningKeys.from_pem(new + old_pem), clock)
    assert (await both.verify(token)).principal == PRINCIPAL
    assert jwt.get_unverified_header(issue(both))["kid"] == SigningKeys.from_pem(new).kid
    assert await refusal(make_tokens(SigningKeys.from_pem(new), clock), token) is ErrorCode.TOKEN_INVALID


async def test_a_public_key_may_announce_a_coming_one(clock: ManualClock) -> None:
    coming = SigningKeys.from_pem(new_pem())
    public = coming.signing.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    tokens = make_tokens(SigningKeys.from_pem(new_pem() + public.decode()), clock)
    assert (await tokens.verify(issue(make_tokens(coming, clock)))).principal == PRINCIPAL


async def test_the_published_keys_verify_a_token_and_hold_no_secret(tokens: Tokens, keys: SigningKeys) -> None:
    published = keys.as_jwks()["keys"]
    assert [set(key) for key in published] == [{"kty", "crv", "x", "kid", "use", "alg"}]
    key = jwt.PyJWK(published[0])
    assert jwt.decode(issue(tokens), key, algorithms=["EdDSA"], audience="tchat", options={"verify_exp": False})


def test_a_thumbprint_is_that_of_rfc_8037() -> None:
    secret = base64.urlsafe_b64decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")
    keys = SigningKeys(Ed25519PrivateKey.from_private_bytes(secret))
    assert keys.kid == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def ec_pem() -> str:
    from cryptography.hazmat.primitives.asymmetric import ec

    return (
        ec.generate_private_key(ec.SECP256R1())
        .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        .decode()
    )


@pytest.mark.parametrize(
    "text",
    ["", "no key", new_pem()[:60], ec_pem(), new_pem() + ec_pem()],
    ids=["empty", "no key", "cut", "of another kind", "two"],
)
def test_keys_of_another_form_are_refused_without_showing_them(text: str) -> None:
    with pytest.raises(SigningKeyError) as refused:
        SigningKeys.from_pem(text)
    assert "-----" not in str(refused.value)
