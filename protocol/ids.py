"""Identifiers: 16 bytes in memory, in msgpack and in SQL (`uuid`); canonical UUID text in JSON and HTTP.

New ids are UUIDv7 (RFC 9562 section 5.7), so that indexes grow at one end. The ids of dialogs are
*derived* (RFC 9562 section 5.8, version 8): creating the same dialog twice gives the same id.
"""

from __future__ import annotations

import hashlib
import os
import time
from typing import Annotated
from uuid import UUID

import msgspec

ID_BYTES = 16
Id = Annotated[bytes, msgspec.Meta(min_length=ID_BYTES, max_length=ID_BYTES)]

NIL: bytes = bytes(ID_BYTES)


def new_id() -> bytes:
    """A fresh UUIDv7: 48 bits of Unix milliseconds, then random bits."""
    stamp = int(time.time() * 1000).to_bytes(6, "big")
    return _versioned(stamp + os.urandom(10), 7)


def self_dialog_id(principal: bytes) -> bytes:
    """The `self` dialog of a principal."""
    return _derived(b"self", principal)


def direct_dialog_id(one: bytes, other: bytes) -> bytes:
    """The one direct dialog of a pair, in whichever order they are given."""
    return _derived(b"direct", *sorted((one, other)))


def created_dialog_id(device: bytes, n: int) -> bytes:
    """The dialog that a device creates under its number `n`; a retry names the same dialog."""
    return _derived(b"created", device, n.to_bytes(8, "big"))


def to_text(value: bytes) -> str:
    """Canonical UUID text of an id."""
    return str(UUID(bytes=value))


def from_text(text: str) -> bytes:
    """The id of a canonical UUID text; raises `ValueError` for any other text."""
    value = UUID(text)
    if str(value) != text.lower():
        raise ValueError("not a canonical UUID")
    return value.bytes


def _derived(purpose: bytes, *parts: bytes) -> bytes:
    digest = hashlib.blake2b(b"".join(parts), digest_size=16, person=purpose)
    return _versioned(digest.digest(), 8)


def _versioned(raw: bytes, version: int) -> bytes:
    value = bytearray(raw)
    value[6] = (value[6] & 0x0F) | (version << 4)
    value[8] = (value[8] & 0x3F) | 0x80
    return bytes(value)
