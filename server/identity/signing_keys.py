"""The Ed25519 keys of our access tokens: one signs, and the tokens of all of them are accepted.

They are one PEM text: its first block is the private key that signs; every further block, private or public, is a
former or future key whose tokens are accepted. So a key is rotated in three steps: add the new public key on every
node, make the new private key the first on every node, and drop the old key when the last of its tokens has expired.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_BLOCK = re.compile(r"-----BEGIN (PRIVATE|PUBLIC) KEY-----.+?-----END \1 KEY-----", re.DOTALL)


class SigningKeyError(Exception):
    """A text without usable keys; the message says what is wrong and never shows the text."""


class SigningKeys:
    """The key that signs, and all accepted keys by `kid` (the RFC 7638 thumbprint)."""

    def __init__(self, signing: Ed25519PrivateKey, accepted: Iterable[Ed25519PublicKey] = ()) -> None:
        self.signing = signing
        self.kid = thumbprint(signing.public_key())
        self._accepted = {thumbprint(key): key for key in (signing.public_key(), *accepted)}

    @classmethod
    def from_pem(cls, text: str) -> SigningKeys:
        """Read the keys; raises SigningKeyError."""
        keys = [_load(match[0]) for match in _BLOCK.finditer(text)]
        if not keys or not isinstance(keys[0], Ed25519PrivateKey):
            raise SigningKeyError("the first key must be an Ed25519 private key in PEM (PKCS 8)")
        public = (key.public_key() if isinstance(key, Ed25519PrivateKey) else key for key in keys[1:])
        return cls(keys[0], public)

    def find_accepted(self, kid: object) -> Ed25519PublicKey | None:
        """The public key of this `kid`; None when its tokens are not accepted."""
        return self._accepted.get(kid) if isinstance(kid, str) else None

    def as_jwks(self) -> dict[str, list[dict[str, str]]]:
        """All accepted keys as a JWK set (RFC 7517, RFC 8037)."""
        keys = [{**_jwk(key), "kid": kid, "use": "sig", "alg": "EdDSA"} for kid, key in self._accepted.items()]
        return {"keys": keys}


def new_pem() -> str:
    """A new private key, in PEM."""
    key = Ed25519PrivateKey.generate()
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode("ascii")


def thumbprint(key: Ed25519PublicKey) -> str:
    """The `kid` of a key: the SHA-256 of its JWK members, sorted by name (RFC 7638)."""
    canonical = json.dumps(_jwk(key), sort_keys=True, separators=(",", ":"))
    return _base64url(hashlib.sha256(canonical.encode("ascii")).digest())


def _jwk(key: Ed25519PublicKey) -> dict[str, str]:
    return {"crv": "Ed25519", "kty": "OKP", "x": _base64url(key.public_bytes_raw())}


def _load(pem: str) -> Ed25519PrivateKey | Ed25519PublicKey:
    data = pem.encode("utf-8")
    try:
        key: object
        if "PRIVATE" in pem.partition("\n")[0]:
            key = serialization.load_pem_private_key(data, password=None)
        else:
            key = serialization.load_pem_public_key(data)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise SigningKeyError("one of the PEM blocks cannot be read as a key") from None
    if not isinstance(key, Ed25519PrivateKey | Ed25519PublicKey):
        raise SigningKeyError("one of the keys is not an Ed25519 key")
    return key


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
