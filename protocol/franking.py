"""The commitment of a sealed message: its receiver can show a moderator later what it contained, and nobody can lie.

HMAC-SHA256 under 32 random bytes that are in the ciphertext; the commitment itself is in the header, which the server
keeps. The key has exactly 32 bytes: HMAC pads shorter keys with zeros, so a key and the same key with a zero
more would commit to the same.
(Facebook's "message franking", and Grubbs, Lu, Ristenpart, "Message Franking via Committing Authenticated Encryption".)
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from protocol.canonical import frame

FRANKING_KEY_BYTES = 32
_DOMAIN = b"tchat/frank/1"


@dataclass(frozen=True, slots=True)
class Franked:
    """What a commitment commits to: where a message stands, whose it is, and its content."""

    dialog: bytes
    author: bytes
    device: bytes
    n: int
    tag: int
    target: int | None
    content: bytes


def commit(key: bytes, franked: Franked) -> bytes:
    """The commitment, 32 bytes; `ValueError` unless the key has 32 bytes."""
    if len(key) != FRANKING_KEY_BYTES:
        raise ValueError(f"a franking key has {FRANKING_KEY_BYTES} bytes")
    numbers = (franked.n, franked.tag, franked.target or 0)
    n, tag, target = (number.to_bytes(8, "big") for number in numbers)
    message = frame(_DOMAIN, franked.dialog, franked.author, franked.device, n, tag, target, franked.content)
    return hmac.digest(key, message, hashlib.sha256)


def is_committed(commitment: bytes, key: bytes, franked: Franked) -> bool:
    """Whether this is what was committed to, in constant time; False for a key of another length."""
    return len(key) == FRANKING_KEY_BYTES and hmac.compare_digest(commitment, commit(key, franked))
