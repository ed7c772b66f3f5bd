"""Keys that are the same in every run, which a test names by a number; and keys that nobody else has."""

from __future__ import annotations

from nacl.public import PrivateKey
from nacl.signing import SigningKey

from protocol.public_keys import DevicePublic


def device_signing_key(number: int) -> SigningKey:
    """What device `number` signs with."""
    return SigningKey(bytes([number, 0xED]) * 16)


def device_keys(number: int) -> DevicePublic:
    """The public keys of device `number`."""
    agreement = PrivateKey(bytes([number, 0xCC]) * 16).public_key
    return DevicePublic(bytes(device_signing_key(number).verify_key), bytes(agreement))


def fresh_keys() -> DevicePublic:
    """Public keys of a device that no other test, and no other device of this one, has."""
    return DevicePublic(bytes(SigningKey.generate().verify_key), bytes(PrivateKey.generate().public_key))
