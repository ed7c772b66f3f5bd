"""Keys that are the same in every run, which a test names by a number; and keys that nobody else has."""

from __future__ import annotations

from typing import Any

from nacl.public import PrivateKey
from nacl.signing import SigningKey

from protocol.canonical import decode_canonical, signed_part, to_base64, user_id_of
from protocol.public_keys import DevicePublic, is_signature_text


def device_signing_key(number: int) -> SigningKey:
    """What device `number` signs with."""
    return SigningKey(bytes([number, 0xED]) * 16)


def device_keys(number: int) -> DevicePublic:
    """The public keys of device `number`."""
    agreement = PrivateKey(bytes([number, 0xCC]) * 16).public_key
    return DevicePublic(bytes(device_signing_key(number).verify_key), bytes(agreement))


def bears_signature(data: bytes, principal: bytes, key: bytes) -> bool:
    """Whether Matrix' object bears the signature of this cross-signing key of a person."""
    value: dict[str, Any] = decode_canonical(data)
    signature = value["signatures"].get(user_id_of(principal), {}).get(f"ed25519:{to_base64(key)}")
    return is_signature_text(signature, signed_part(value), key)


def fresh_keys() -> DevicePublic:
    """Public keys of a device that no other test, and no other device of this one, has."""
    return DevicePublic(bytes(SigningKey.generate().verify_key), bytes(PrivateKey.generate().public_key))
