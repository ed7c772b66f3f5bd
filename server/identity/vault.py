"""What must not be read in a copy of the database: phone numbers encrypted, everything else as keyed hashes.

The vault has one or more keys of 32 bytes, each known by a name that is derived from it. The first encrypts; each
decrypts what it encrypted; the last makes the hashes by which numbers are found and codes are compared, so it stays
last for ever. To change the key of encryption, put a new one first. Each use has a subkey of its own.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence

from nacl.exceptions import CryptoError
from nacl.secret import SecretBox

KEY_BYTES = 32
CODE_DIGITS = 6
_TOKEN_BYTES = 32
_REFRESH_PREFIX = "tcr_"
_API_KEY_PREFIX = "tck_"


class VaultError(Exception):
    """Keys that cannot be used, or a number that none of them opens."""


class Vault:
    """The keys of one deployment. Every node of it has the same."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        """`keys`: the one that encrypts first, the one that finds last."""
        if not keys or any(len(key) != KEY_BYTES for key in keys):
            raise VaultError(f"a key has {KEY_BYTES} bytes, in base64")
        self._boxes = {_name(key): SecretBox(_subkey(key, b"phone box")) for key in keys}
        self._name = _name(keys[0])
        self._finding = _subkey(keys[-1], b"phone hash")
        self._coding = _subkey(keys[-1], b"code hash")
        self._rotating = _subkey(keys[-1], b"refresh")

    @classmethod
    def from_text(cls, text: str) -> Vault:
        """Keys in base64, one to a line; raises VaultError."""
        try:
            keys = [base64.b64decode(line, validate=True) for line in text.split()]
        except ValueError:
            raise VaultError(f"a key has {KEY_BYTES} bytes, in base64") from None
        return cls(keys)

    # -- phone numbers

    def seal(self, number: str) -> tuple[str, bytes]:
        """A number as it is kept: the name of the key, and what only the key opens."""
        return self._name, self._boxes[self._name].encrypt(number.encode("ascii"))

    def open(self, key: str, box: bytes) -> str:
        """The number in a box; raises VaultError when its key is not here."""
        try:
            return self._boxes[key].decrypt(box).decode("ascii")
        except (KeyError, CryptoError):
            raise VaultError(f"no key of the name {key} opens this phone number") from None

    def phone_hash(self, tenant: int, number: str) -> bytes:
        """What a number is found by, within its tenant."""
        return _mac(self._finding, tenant.to_bytes(8, "big"), number.encode("ascii"))

    # -- one-time codes

    def code_hash(self, phone_hash: bytes, code: str) -> bytes:
        """A code as it is kept: of no use for another number."""
        return _mac(self._coding, phone_hash, code.encode("utf-8", "surrogatepass"))

    # -- tokens

    def successor(self, refresh_token: str) -> str:
        """The refresh token that follows; nobody without the key can tell it, and it is the same each time."""
        mac = _mac(self._rotating, refresh_token.encode("utf-8", "surrogatepass"))
        return _refresh_token(sign_in_of(refresh_token) or bytes(16), mac)


def new_key() -> str:
    """A fresh key, in base64."""
    return base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode("ascii")


def new_code() -> str:
    """A one-time code."""
    return f"{secrets.randbelow(10**CODE_DIGITS):0{CODE_DIGITS}}"


def new_refresh_token(sign_in: bytes) -> str:
    """The first refresh token of a sign-in."""
    return _refresh_token(sign_in, secrets.token_bytes(_TOKEN_BYTES))


def sign_in_of(refresh_token: str) -> bytes | None:
    """The sign-in that a refresh token claims to be of: not to be believed, only to be counted by."""
    try:
        raw = base64.urlsafe_b64decode(refresh_token.removeprefix(_REFRESH_PREFIX))
    except ValueError:
        return None
    return raw[:16] if refresh_token.startswith(_REFRESH_PREFIX) and len(raw) == 16 + _TOKEN_BYTES else None


def new_api_key() -> str:
    """An API key."""
    return _API_KEY_PREFIX + base64.urlsafe_b64encode(secrets.token_bytes(_TOKEN_BYTES)).rstrip(b"=").decode("ascii")


def is_api_key(text: str) -> bool:
    """Whether it looks like an API key, and not like an access token."""
    return text.startswith(_API_KEY_PREFIX)


def token_hash(token: str) -> bytes:
    """A random token as it is kept. It holds 256 random bits, so a plain hash is enough."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def same(one: bytes, other: bytes) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(one, other)


def _refresh_token(sign_in: bytes, secret: bytes) -> str:
    return _REFRESH_PREFIX + base64.urlsafe_b64encode(sign_in + secret).decode("ascii")


def _subkey(key: bytes, purpose: bytes) -> bytes:
    return hashlib.blake2b(key=key, person=purpose, digest_size=32).digest()


def _name(key: bytes) -> str:
    return hashlib.blake2b(key=key, person=b"name", digest_size=6).hexdigest()


def _mac(key: bytes, *parts: bytes) -> bytes:
    return hashlib.blake2b(b"".join(parts), key=key, digest_size=32).digest()
