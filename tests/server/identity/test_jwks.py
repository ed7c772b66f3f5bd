"""The keys of other issuers are fetched seldom, kept through outages, and bounded."""

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from server.identity.jwks import BYTES_MAX, DocumentFetcher, FetchDocument, JwksError, KeySet
from server.identity.signing_keys import SigningKeys, new_pem
from server.startup_error import StartupError
from tests.support.clock import ManualClock

pytestmark = pytest.mark.anyio

KEYS = SigningKeys.from_pem(new_pem())
URL = "https://shop.example/keys"


class Documents(FetchDocument):
    """Serves one document; counts how often, and fails on wish."""

    def __init__(self, document: Any) -> None:
        self.document = document
        self.fetched = 0
        self.broken = False

    async def __call__(self, _url: str) -> bytes:
        self.fetched += 1
        await asyncio.sleep(0)
        if self.broken:
            raise JwksError("gone")
        return self.document if isinstance(self.document, bytes) else json.dumps(self.document).encode()


@pytest.fixture
def documents() -> Documents:
    return Documents(KEYS.as_jwks())


@pytest.fixture
def keys(documents: Documents, clock: ManualClock) -> KeySet:
    return KeySet(URL, documents, clock)


async def test_keys_are_fetched_once_by_however_many_at_once(keys: KeySet, documents: Documents) -> None:
    found = await asyncio.gather(*(keys.find(KEYS.kid) for _ in range(50)))
    assert all(key is not None for key in found)
    assert documents.fetched == 1


async def test_a_storm_of_unknown_keys_fetches_once_in_half_a_minute(
    keys: KeySet, documents: Documents, clock: ManualClock
) -> None:
    assert set(await asyncio.gather(*(keys.find(f"unknown {at}") for at in range(100)))) == {None}
    assert documents.fetched == 1
    assert await keys.find(KEYS.kid) is not None
    clock.advance(30)
    await asyncio.gather(*(keys.find(f"unknown {at}") for at in range(100)))
    assert documents.fetched == 2


async def test_a_new_key_is_found_within_half_a_minute(keys: KeySet, documents: Documents, clock: ManualClock) -> None:
    await keys.find(KEYS.kid)
    fresh = SigningKeys.from_pem(new_pem())
    documents.document = fresh.as_jwks()
    clock.advance(30)
    assert await keys.find(fresh.kid) is not None


async def test_a_withdrawn_key_is_out_within_ten_minutes(
    keys: KeySet, documents: Documents, clock: ManualClock
) -> None:
    await keys.find(KEYS.kid)
    documents.document = {"keys": []}
    clock.advance(600)
    assert await keys.find(KEYS.kid) is None


async def test_an_outage_of_the_issuer_signs_nobody_out_for_a_day(
    keys: KeySet, documents: Documents, clock: ManualClock
) -> None:
    await keys.find(KEYS.kid)
    documents.broken = True
    clock.advance(86_000)
    assert await keys.find(KEYS.kid) is not None
    clock.advance(500)
    with pytest.raises(JwksError):
        await keys.find(KEYS.kid)
    documents.broken = False
    clock.advance(30)
    assert await keys.find(KEYS.kid) is not None


@pytest.mark.parametrize(
    "document",
    [b"", b"<html>", b"{}", b'{"keys": {}}', b'{"keys": [1]}', b"[" * 50_000, b"\xff", b'{"keys": null}'],
)
async def test_what_is_no_jwks_gives_no_keys(clock: ManualClock, document: bytes) -> None:
    with pytest.raises(JwksError):
        await KeySet(URL, Documents(document), clock).find(KEYS.kid)


async def test_keys_that_cannot_sign_tokens_are_skipped(clock: ManualClock) -> None:
    (good,) = KEYS.as_jwks()["keys"]
    odd = [
        {},
        {"kty": "OKP", "kid": "no x"},
        {"kty": "oct", "kid": "shared", "k": "AAAA"},
        {**good, "kid": "enc", "use": "enc"},
        {**good, "kid": "other alg", "alg": "HS256"},
        {**good, "kid": "no alg", "alg": "none"},
        {"kty": 7},
        {"kty": []},
        {**good, "kid": "odd alg", "alg": []},
    ]
    keys = KeySet(URL, Documents({"keys": [*odd, good]}), clock)
    assert await keys.find(KEYS.kid) is not None
    names: list[object] = ["no x", "shared", "enc", "other alg", "no alg", "odd alg", "", None, 7, []]
    for kid in names:
        assert await keys.find(kid) is None


def rsa_key(modulus: int) -> dict[str, str]:
    data = modulus.to_bytes((modulus.bit_length() + 7) // 8, "big")
    return {"kty": "RSA", "alg": "RS256", "n": base64.urlsafe_b64encode(data).rstrip(b"=").decode(), "e": "AQAB"}


def ed25519_key(y: int) -> dict[str, str]:
    return {
        "kty": "OKP",
        "crv": "Ed25519",
        "x": base64.urlsafe_b64encode(y.to_bytes(32, "little")).rstrip(b"=").decode(),
    }


WEAK = {
    "RSA of 4 bits": rsa_key(15),
    "RSA of 1024 bits": rsa_key(2**1023 + 1),
    "RSA of 2047 bits": rsa_key(2**2046 + 1),
    "RSA that costs seconds": rsa_key(2**16_000 + 1),
    "the zero key": ed25519_key(0),
    "the neutral point": ed25519_key(1),
    "the neutral point, signed": ed25519_key(1 + 2**255),
    "the neutral point, unreduced": ed25519_key(2**255 - 19 + 1),
    "order 2": ed25519_key(2**255 - 20),
    "order 8": ed25519_key(2707385501144840649318225287225658788936804267575313519463743609750303402022),
}


@pytest.mark.parametrize("weak", WEAK.values(), ids=WEAK)
async def test_a_key_for_which_anybody_can_sign_is_skipped(clock: ManualClock, weak: dict[str, str]) -> None:
    keys = KeySet(URL, Documents({"keys": [{**weak, "kid": "weak"}, *KEYS.as_jwks()["keys"]]}), clock)
    assert await keys.find("weak") is None
    assert await keys.find(KEYS.kid) is not None


async def test_strong_keys_of_every_type_are_taken(clock: ManualClock) -> None:
    rsa_2048 = rsa.generate_private_key(65_537, 2048).public_key()
    p256, p384 = (ec.generate_private_key(curve).public_key() for curve in (ec.SECP256R1(), ec.SECP384R1()))
    strong = [
        {**RSAAlgorithm.to_jwk(rsa_2048, as_dict=True), "alg": "RS256", "kid": "rsa"},
        {**ECAlgorithm.to_jwk(p256, as_dict=True), "kid": "p256"},
        {**ECAlgorithm.to_jwk(p384, as_dict=True), "kid": "p384"},
    ]
    keys = KeySet(URL, Documents({"keys": strong}), clock)
    assert [(await keys.find(kid)) is not None for kid in ("rsa", "p256", "p384")] == [True] * 3


@pytest.mark.parametrize("url", ["http://shop.example/keys", "ftp://shop.example/keys", "keys.json", ""])
def test_keys_come_over_https_or_from_a_file(clock: ManualClock, url: str) -> None:
    with pytest.raises(StartupError):
        KeySet(url, Documents({}), clock)


async def test_a_document_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "k %.json"
    path.write_bytes(b"{}")
    fetch = DocumentFetcher()
    assert await fetch(path.as_uri()) == b"{}"
    path.write_bytes(b" " * (BYTES_MAX + 1))
    for url in (path.as_uri(), (tmp_path / "none").as_uri()):
        with pytest.raises(JwksError):
            await fetch(url)
    await fetch.aclose()


async def test_a_document_is_fetched_and_bounded_and_no_redirect_followed() -> None:
    answers = {
        "/ok": httpx.Response(200, content=b"{}"),
        "/gone": httpx.Response(404),
        "/moved": httpx.Response(302, headers={"Location": "https://shop.example/ok"}),
        "/large": httpx.Response(200, content=b" " * (BYTES_MAX + 1)),
    }
    fetch = DocumentFetcher(transport=httpx.MockTransport(lambda request: answers[request.url.path]))
    assert await fetch("https://shop.example/ok") == b"{}"
    for path in ("/gone", "/moved", "/large"):
        with pytest.raises(JwksError):
            await fetch(f"https://shop.example{path}")
    await fetch.aclose()


async def test_a_server_that_is_not_there_is_an_error_of_ours() -> None:
    def refuse(_request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    fetch = DocumentFetcher(transport=httpx.MockTransport(refuse))
    with pytest.raises(JwksError):
        await fetch(URL)
    await fetch.aclose()
