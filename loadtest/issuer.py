"""Tokens for the people of a load test, from an issuer that the server is configured to accept: nobody signs up."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import jwt
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from loadtest.lean_client import LoadError

ISSUER = "loadtest"
"""Its `iss`, its `aud`, and the name of its key."""
_TOKEN_S = 86_400


def as_setting(jwks_url: str) -> str:
    """What the configuration of a server needs to accept tokens of this issuer."""
    lines = ("[[identity.issuers]]", f'issuer = "{ISSUER}"', f'audience = "{ISSUER}"', f'jwks_url = "{jwks_url}"')
    return "\n".join([*lines, "tenant = 1", ""])


class Issuer:
    """One Ed25519 key that signs tokens."""

    def __init__(self, key: Ed25519PrivateKey | None = None) -> None:
        """Without a key, with a new one."""
        self._key = key or Ed25519PrivateKey.generate()

    @classmethod
    def read(cls, path: Path) -> Self:
        """The issuer whose private key (PEM) is in this file; raises LoadError."""
        try:
            return cls.load(path.read_text())
        except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise LoadError(f"{path} has no Ed25519 private key in PEM ({why}): see `tchat loadtest key`.") from None

    @classmethod
    def load(cls, pem: str) -> Self:
        """The issuer of a private key in PEM; raises ValueError or TypeError."""
        key = serialization.load_pem_private_key(pem.encode(), password=None)
        if not isinstance(key, Ed25519PrivateKey):
            raise TypeError("the key is of another kind")
        return cls(key)

    def pem(self) -> str:
        """The private key."""
        form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        return self._key.private_bytes(serialization.Encoding.PEM, form, plain).decode()

    @classmethod
    def create(cls, path: Path) -> Path:
        """Write a new private key to a file that there is not yet, and its public key beside it; returns that path."""
        issuer, public = cls(), path.with_name(f"{path.name}.jwks.json")
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(issuer.pem())
            public.write_bytes(msgspec.json.encode(issuer.jwks()))
        except OSError as error:
            raise LoadError(f"The key cannot be written to {path} ({error.strerror}): name a new file.") from None
        return public

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """The public key, as the server reads it (`jwks_url`)."""
        x = base64.urlsafe_b64encode(self._key.public_key().public_bytes_raw()).rstrip(b"=").decode()
        return {"keys": [{"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": ISSUER, "x": x}]}

    def token(self, name: str) -> str:
        """An access token of a person; the server creates an unknown person on first use."""
        return self.sign({"iss": ISSUER, "aud": ISSUER, "sub": name}, lives_s=_TOKEN_S)

    def sign(self, claims: Mapping[str, str | int], *, lives_s: int) -> str:
        """A token of these claims that begins now."""
        now_s = int(time.time())
        whole = {**claims, "iat": now_s, "exp": now_s + lives_s}
        return jwt.encode(whole, self._key, algorithm="EdDSA", headers={"kid": ISSUER})
