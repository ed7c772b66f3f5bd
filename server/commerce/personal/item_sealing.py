"""Seals items under a person's key, bound to whose they are and which they are: moved to another row, none opens.

The text is JSON, padded with spaces to a multiple of PADDED_BYTES, so its size says little about an address.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple, TypeVar

import msgspec
from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
    crypto_aead_xchacha20poly1305_ietf_NPUBBYTES,
)
from nacl.exceptions import CryptoError
from nacl.utils import random

from storage.commerce.personal_rows import ItemKind

PADDED_BYTES = 256
_NONCE_BYTES = crypto_aead_xchacha20poly1305_ietf_NPUBBYTES
_ITEM = b"tchat personal item 1"

_Value = TypeVar("_Value")


class SealError(Exception):
    """What is stored was not sealed under this key as this item."""


class SealedPlace(NamedTuple):
    """Where something sealed belongs: what it is, whose, and the id of its row, or what else names it."""

    kind: ItemKind
    person: bytes
    name: bytes

    @property
    def bound(self) -> bytes:
        """What the seal is bound to."""
        return _ITEM + bytes([self.kind]) + self.person + self.name


class HeldKey(msgspec.Struct, frozen=True):
    """A person's key, and its id."""

    id: bytes
    secret: bytes

    def __repr__(self) -> str:
        return "HeldKey(***)"

    @property
    def digest_key(self) -> bytes:
        """The key of digests of requests with personal content: with this key, what they say of it is gone, too."""
        return hashlib.blake2b(key=self.secret, person=b"step digest", digest_size=32).digest()


def seal(key: HeldKey, place: SealedPlace, value: object) -> bytes:
    """The sealed form of a value."""
    text = msgspec.json.encode(value)
    padded = text.ljust(-(-len(text) // PADDED_BYTES) * PADDED_BYTES)
    nonce = random(_NONCE_BYTES)
    return nonce + crypto_aead_xchacha20poly1305_ietf_encrypt(padded, place.bound, nonce, key.secret)


def unseal(key: HeldKey, place: SealedPlace, sealed: bytes, form: type[_Value]) -> _Value:
    """What was sealed; raises SealError."""
    nonce, box = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
    try:
        text = crypto_aead_xchacha20poly1305_ietf_decrypt(box, place.bound, nonce, key.secret)
        return msgspec.json.decode(text, type=form)
    except (CryptoError, msgspec.DecodeError, ValueError) as error:
        raise SealError(type(error).__name__) from None
