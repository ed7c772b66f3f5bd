"""Keeps a copy of the database unreadable: phone numbers are encrypted, codes and tokens are stored as hashes.

The vault has one or more keys of 32 bytes; the name of each is derived from it. The first key encrypts, and each key
decrypts what it encrypted. The last key makes the hashes that numbers are found by and codes are compared by, so it
must always stay last. To rotate the encryption key, put a new one first. Each use has its own subkey.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import secrets
from collections.abc import Sequence

from nacl.exceptions import CryptoError
from nacl.secret import SecretBox

from protocol.ids import NIL

KEY_BYTES = 32
_DIFFERENT_BYTES_MIN = 8
_TOKEN_BYTES = 32
_REFRESH_PREFIX = "tcr_"
_API_KEY_PREFIX = "tck_"


class VaultError(Exception):
    """Keys that cannot be used, or a phone number that none of them decrypts."""


class Vault:
    """The keys of one deployment, the same on every node."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        """The first of `keys` encrypts, the last makes hashes; raises VaultError."""
        if not keys or any(len(key) != KEY_BYTES for key in keys):
            raise VaultError(f"a key has {KEY_BYTES} bytes, in base64")
        self.is_guessable = any(is_guessable(key) for key in keys)
        self._boxes = {_name_of(key): SecretBox(_subkey(key, b"phone box")) for key in keys}
        self._key_name = _name_of(keys[0])
        self._phone_hash_key = _subkey(keys[-1], b"phone hash")
        self._code_hash_key = _subkey(keys[-1], b"code hash")
        self._refresh_key = _subkey(keys[-1], b"refresh")
        self._webhook_key = _subkey(keys[-1], b"webhook")
        self._payment_key = _subkey(keys[-1], b"payment call")

    @classmethod
    def from_text(cls, text: str) -> Vault:
        """Read keys in base64, one per line; raises VaultError."""
        try:
            keys = [base64.b64decode(line, validate=True) for line in text.split()]
        except ValueError:
            raise VaultError(f"a key has {KEY_BYTES} bytes, in base64") from None
        return cls(keys)

    # -- phone numbers

    def seal(self, number: str) -> tuple[str, bytes]:
        """Encrypt a number: the name of the key, and the ciphertext."""
        return self._key_name, self._boxes[self._key_name].encrypt(number.encode("ascii"))

    def open(self, key: str, box: bytes) -> str:
        """Decrypt a number; raises VaultError when its key is not in this vault."""
        try:
            return self._boxes[key].decrypt(box).decode("ascii")
        except (KeyError, CryptoError):
            raise VaultError(f"no key named {key} opens this phone number") from None

    def hash_phone(self, tenant: int, number: str) -> bytes:
        """The hash that a number is found by within its tenant."""
        return _mac(self._phone_hash_key, tenant.to_bytes(8, "big"), number.encode("ascii"))

    # -- one-time codes

    def hash_code(self, phone_hash: bytes, code: str) -> bytes:
        """The hash of a code; it matches no other number."""
        return _mac(self._code_hash_key, phone_hash, code.encode("utf-8", "surrogatepass"))

    # -- tokens

    def derive_successor(self, refresh_token: str) -> str:
        """The refresh token that replaces this one: always the same, and unpredictable without the key."""
        mac = _mac(self._refresh_key, refresh_token.encode("utf-8", "surrogatepass"))
        return _refresh_token(sign_in_of(refresh_token) or NIL, mac)

    # -- webhooks

    def derive_webhook_secret(self, principal: bytes, secret_no: int) -> bytes:
        """The secret number `secret_no` that signs what is posted for a bot: always the same."""
        return _mac(self._webhook_key, principal, secret_no.to_bytes(8, "big"))

    # -- payments

    def hash_payment(self, *parts: bytes) -> bytes:
        """The hash of what a number was used for: few things are possible, and who has no key cannot try them."""
        return _mac(self._payment_key, *parts)


def is_guessable(key: bytes) -> bool:
    """Whether 32 bytes are a pattern or a repeated word, and not from a random generator.

    Random bytes have fewer than 8 different values, or one step between all of them, less than once in 10^36.
    """
    steps = {(after - before) % 256 for before, after in itertools.pairwise(key)}
    return len(set(key)) < _DIFFERENT_BYTES_MIN or len(steps) == 1


def new_key() -> str:
    """A new random key, in base64."""
    return base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode("ascii")


def new_refresh_token(sign_in: bytes) -> str:
    """The first refresh token of a sign-in."""
    return _refresh_token(sign_in, secrets.token_bytes(_TOKEN_BYTES))


def sign_in_of(refresh_token: str) -> bytes | None:
    """The sign-in that a refresh token claims, unverified: good for rate limits only. None when malformed."""
    try:
        raw = base64.urlsafe_b64decode(refresh_token.removeprefix(_REFRESH_PREFIX))
    except ValueError:
        return None
    return raw[:16] if refresh_token.startswith(_REFRESH_PREFIX) and len(raw) == 16 + _TOKEN_BYTES else None


def new_api_key() -> str:
    """A new random API key."""
    return _API_KEY_PREFIX + base64.urlsafe_b64encode(secrets.token_bytes(_TOKEN_BYTES)).rstrip(b"=").decode("ascii")


def is_api_key(text: str) -> bool:
    """Whether the text has the form of an API key, not of an access token."""
    return text.startswith(_API_KEY_PREFIX)


def hash_token(token: str) -> bytes:
    """The hash of a random token or API key: with 256 random bits, a plain hash is enough."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def equal(one: bytes, other: bytes) -> bool:
    """Whether the two are equal, compared in constant time."""
    return hmac.compare_digest(one, other)


def _refresh_token(sign_in: bytes, secret: bytes) -> str:
    return _REFRESH_PREFIX + base64.urlsafe_b64encode(sign_in + secret).decode("ascii")


def _subkey(key: bytes, purpose: bytes) -> bytes:
    return hashlib.blake2b(key=key, person=purpose, digest_size=32).digest()


def _name_of(key: bytes) -> str:
    return hashlib.blake2b(key=key, person=b"name", digest_size=6).hexdigest()


def _mac(key: bytes, *parts: bytes) -> bytes:
    return hashlib.blake2b(b"".join(parts), key=key, digest_size=32).digest()
