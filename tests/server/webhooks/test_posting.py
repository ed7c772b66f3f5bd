"""A request is signed as the standard says, and goes to nowhere that only this server reaches."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from server.trusted import read_trusted
from server.webhooks import posting
from server.webhooks.posting import Poster, PostError, check_url, is_public, sign
from tests.support.webhook_receiver import WebhookReceiver, receiving

pytestmark = pytest.mark.anyio

NAME = "bots.example"


async def here(_host: str, _port: int) -> list[str]:
    """Every name is this machine."""
    return ["127.0.0.1"]


def test_a_request_is_signed_as_the_examples_of_the_standard_are() -> None:
    headers = sign(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert (headers["webhook-id"], headers["webhook-timestamp"]) == ("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330")


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111"])
def test_everybody_reaches_a_public_address(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.8",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fd00::1",
        "ff02::1",
        "::ffff:10.0.0.8",
        "64:ff9b::a00:8",
        "2002:a00:8::1",
    ],
)
def test_other_addresses_are_not_public(address: str) -> None:
    assert not is_public(address)


def test_an_address_has_the_form_of_a_public_one() -> None:
    for url in ("https://bots.example/a?b=c", "https://bots.example:8443"):
        assert check_url(url, private=False) == ""
    for url in (
        "http://bots.example",
        "ftp://bots.example",
        "bots.example",
        "https://",
        "https://me:secret@bots.example",
        "https://bots.example:99999",
        "https://bots.example/a b",
        "https://bots.example/\u00e9",
        "https://bots.example/" + "a" * 2000,
        "https://[::1",
    ):
        assert check_url(url, private=False) != ""
    assert check_url("http://10.0.0.8", private=True) == ""


@pytest.mark.parametrize("answers", [["127.0.0.1"], ["8.8.8.8", "10.0.0.8"], []])
async def test_nothing_is_sent_to_a_name_with_any_address_that_is_not_public(answers: list[str]) -> None:
    async def rebinding(_host: str, _port: int) -> list[str]:
        return answers

    poster = Poster(private=False, resolve=rebinding)
    async with receiving() as receiver:
        with pytest.raises(PostError, match="address"):
            await poster.post(f"http://{NAME}:{receiver.port}/", {}, b"{}")
        assert receiver.requests == []
    await poster.aclose()


async def post(receiver: WebhookReceiver, poster: Poster | None = None) -> None:
    poster = poster or Poster(private=True, resolve=here)
    try:
        await poster.post(f"http://{NAME}:{receiver.port}/a?b=c", {"webhook-id": "1"}, b"{}")
    finally:
        await poster.aclose()


async def test_the_receiver_gets_the_request_under_its_own_name() -> None:
    async with receiving() as receiver:
        await post(receiver)
    (request,) = receiver.requests
    assert (request.path, request.body, request.headers["host"]) == ("/a?b=c", b"{}", f"{NAME}:{receiver.port}")
    assert request.headers["webhook-id"] == "1"


@pytest.mark.parametrize("status", [301, 400, 404, 500])
async def test_only_a_success_counts_and_no_redirect_is_followed(status: int) -> None:
    async with receiving() as receiver:
        receiver.answer = lambda _request: status
        receiver.headers = [("location", f"http://{NAME}:{receiver.port}/elsewhere")]
        with pytest.raises(PostError, match=str(status)) as failed:
            await post(receiver)
        assert not failed.value.gone
    assert [request.path for request in receiver.requests] == ["/a?b=c"]


async def test_a_receiver_that_is_gone_says_so() -> None:
    async with receiving() as receiver:
        receiver.answer = lambda _request: 410
        with pytest.raises(PostError) as failed:
            await post(receiver)
    assert failed.value.gone


async def test_a_receiver_that_does_not_answer_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posting, "TIMEOUT_S", 0.2)
    async with receiving() as receiver:
        receiver.silent = True
        with pytest.raises(PostError, match=r"Timeout|no answer"):
            await post(receiver)
    with pytest.raises(PostError):
        await post(receiver)  # nobody listens any more


@pytest.fixture
def trust_anew() -> Iterator[None]:
    """What a test trusts is not kept for others."""
    read_trusted.cache_clear()
    yield
    read_trusted.cache_clear()


@pytest.mark.usefixtures("trust_anew")
async def test_the_certificate_is_checked_for_the_name_and_not_for_the_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, authority = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    async with receiving(server) as receiver:
        poster = Poster(private=True, resolve=here)
        await poster.post(f"https://{NAME}:{receiver.port}/", {}, b"{}")
        with pytest.raises(PostError, match="certificate"):
            await poster.post(f"https://other.example:{receiver.port}/", {}, b"{}")
        await poster.aclose()
        assert len(receiver.requests) == 1


@pytest.mark.usefixtures("trust_anew")
async def test_a_certificate_of_an_unknown_authority_is_refused(tmp_path: Path) -> None:
    server, _ = certificate(tmp_path)
    async with receiving(server) as receiver:
        poster = Poster(private=True, resolve=here)
        with pytest.raises(PostError, match="certificate"):
            await poster.post(f"https://{NAME}:{receiver.port}/", {}, b"{}")
        await poster.aclose()
        assert not receiver.requests


def certificate(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """A context for a server that is `NAME`, and the certificate of who vouches for it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    authority = folder / "authority.pem"
    authority.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return server, authority
