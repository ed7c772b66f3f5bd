"""Tokens, as the server's own checks read them."""

from pathlib import Path

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from loadtest.issuer import ISSUER, Issuer
from loadtest.lean_client import LoadError


def test_a_token_is_signed_with_the_key_that_is_published() -> None:
    issuer = Issuer()
    key = jwt.PyJWKSet.from_dict(issuer.jwks())[ISSUER]
    claims = jwt.decode(issuer.token("ann"), key, algorithms=["EdDSA"], audience=ISSUER, issuer=ISSUER)
    assert claims["sub"] == "ann"


def test_an_issuer_is_its_key(tmp_path: Path) -> None:
    issuer, path = Issuer(), tmp_path / "key.pem"
    path.write_text(issuer.pem())
    assert Issuer.read(path).jwks() == issuer.jwks()


@pytest.mark.parametrize("text", ["", "not a key"])
def test_a_file_without_a_key_is_said_in_a_sentence(text: str, tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_text(text)
    with pytest.raises(LoadError, match="no Ed25519 private key"):
        Issuer.read(path)


def test_a_key_of_another_kind_is_said_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    other = generate_private_key(SECP256R1())
    path.write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(LoadError, match="another kind"):
        Issuer.read(path)


def test_a_new_key_is_written_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    public = Issuer.create(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert msgspec.json.decode(public.read_bytes()) == Issuer.read(path).jwks()
    with pytest.raises(LoadError, match="name a new file"):
        Issuer.create(path)
