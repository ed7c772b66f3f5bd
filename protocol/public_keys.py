"""Public keys that may be believed: of the right length, in their one form, and neither zero nor of low order.

A key of low order makes every agreement, or every signature, come out the same whoever made it. Keys that pass here are
compared as bytes, since none has two encodings. A Curve25519 key plus a point of low order is another key that agrees
to the same secrets: who calls one of another person's her own gains nothing, because messages name both devices.
"""

from __future__ import annotations

import msgspec
from nacl.bindings import crypto_core_ed25519_is_valid_point, crypto_scalarmult, crypto_sign_open
from nacl.exceptions import BadSignatureError, CryptoError

from protocol.canonical import CanonicalError, from_base64

PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64
_ANY_SCALAR = bytes([1]) * 32
_CURVE25519_PRIME = 2**255 - 19


class BadKeyError(ValueError):
    """This is no public key that anybody should use."""


class DevicePublic(msgspec.Struct, frozen=True):
    """The public keys of a device: one to check what it signs, one to open channels to it."""

    ed25519: bytes
    curve25519: bytes


def read_ed25519(text: object) -> bytes:
    """The Ed25519 key of a base64 text; `BadKeyError` unless signatures under it mean something."""
    key = _bytes_of(text)
    if not crypto_core_ed25519_is_valid_point(key):
        raise BadKeyError("not an Ed25519 key")
    return key


def read_curve25519(text: object) -> bytes:
    """The Curve25519 key of a base64 text; `BadKeyError` unless agreements with it are secret."""
    key = _bytes_of(text)
    if int.from_bytes(key, "little") >= _CURVE25519_PRIME:
        raise BadKeyError("not a Curve25519 key in its one form")
    try:
        crypto_scalarmult(_ANY_SCALAR, key)
    except CryptoError as error:
        raise BadKeyError("a Curve25519 key of low order") from error
    return key


def is_signature(signature: bytes, message: bytes, key: bytes) -> bool:
    """Whether these bytes are a signature of `message` by the Ed25519 key."""
    if len(signature) != SIGNATURE_BYTES:
        return False
    try:
        crypto_sign_open(signature + message, key)
    except BadSignatureError:
        return False
    return True


def is_signature_text(signature: object, message: bytes, key: bytes) -> bool:
    """Whether this is the base64 text of a signature of `message` by the Ed25519 key."""
    try:
        return is_signature(from_base64(signature, SIGNATURE_BYTES), message, key)
    except CanonicalError:
        return False


def _bytes_of(text: object) -> bytes:
    try:
        return from_base64(text, PUBLIC_KEY_BYTES)
    except CanonicalError as error:
        raise BadKeyError("not 32 bytes in base64") from error
