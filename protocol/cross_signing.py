"""Matrix' key objects, checked: what an identity, a device or a one-time key says, and that the right key signed it.

- Cross-signing (Matrix specification, "Cross-signing"): a person's master key signs their self-signing key, which signs
  their devices, and their user-signing key, which signs the master keys of people whom they have verified.
- A device signs its own keys, and its one-time keys: nobody can claim another's device for their own.
- A key has one role. All objects are canonical JSON without fields that nobody checks.

Who is believed is decided by the device log (`protocol/device_log.py`); these signatures are for Matrix' own libraries.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

import msgspec
from nacl.signing import SigningKey

from protocol.canonical import (
    CanonicalError,
    decode_canonical,
    device_id_of,
    encode_canonical,
    signed_part,
    to_base64,
    user_id_of,
)
from protocol.limits import KEY_OBJECT_BYTES_MAX
from protocol.public_keys import BadKeyError, DevicePublic, is_signature_text, read_curve25519, read_ed25519

ALGORITHMS = ("m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2")


class KeysReason(StrEnum):
    """Why a key object is refused."""

    MALFORMED = "malformed"
    TOO_LARGE = "too_large"
    WRONG_OWNER = "wrong_owner"
    WRONG_ROLE = "wrong_role"
    WRONG_ALGORITHMS = "wrong_algorithms"
    BAD_KEY = "bad_key"
    REUSED_KEY = "reused_key"
    WRONG_SIGNATURE = "wrong_signature"

    @property
    def sentence(self) -> str:
        """What is wrong, for who made the keys."""
        return _SENTENCES[self]


_SENTENCES = {
    KeysReason.MALFORMED: "the keys are not the canonical JSON of such an object",
    KeysReason.TOO_LARGE: f"the keys have more than {KEY_OBJECT_BYTES_MAX} bytes",
    KeysReason.WRONG_OWNER: "the keys are of another person or device",
    KeysReason.WRONG_ROLE: "the key has another role than it is used for",
    KeysReason.WRONG_ALGORITHMS: "the device does not support Olm and Megolm, version 1",
    KeysReason.BAD_KEY: "a key is malformed, zero or of low order: make a new one",
    KeysReason.REUSED_KEY: "one key has two roles: make a new one",
    KeysReason.WRONG_SIGNATURE: "a signature that must be there is missing or wrong",
}


class KeysRefusedError(ValueError):
    """These keys are not believed; `reason` is stable, the text says what is wrong."""

    def __init__(self, reason: KeysReason) -> None:
        super().__init__(reason.sentence)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class CrossSigningKeys:
    """The three public keys of an identity."""

    master: bytes
    self_signing: bytes
    user_signing: bytes


@dataclass(frozen=True, slots=True)
class OneTimeKey:
    """A key that opens one channel to a device; `fallback` opens many, when no other is left."""

    key: bytes
    fallback: bool


class _Signed(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    signatures: dict[str, dict[str, str]] = {}


class _CrossSigningObject(_Signed, frozen=True, forbid_unknown_fields=True, kw_only=True):
    user_id: str
    usage: list[str]
    keys: dict[str, str]


class _DeviceKeysObject(_Signed, frozen=True, forbid_unknown_fields=True, kw_only=True):
    user_id: str
    device_id: str
    algorithms: list[str]
    keys: dict[str, str]


class _OneTimeKeyObject(_Signed, frozen=True, forbid_unknown_fields=True, kw_only=True):
    key: str
    fallback: bool = False


_Object = TypeVar("_Object", bound=_Signed)


def read_cross_signing(principal: bytes, master: bytes, self_signing: bytes, user_signing: bytes) -> CrossSigningKeys:
    """The keys of an identity, from its three objects; `KeysRefusedError` unless they are whole and belong together."""
    key = read_master(principal, master)
    keys = CrossSigningKeys(
        key,
        _signed_by_master(principal, self_signing, "self_signing", key),
        _signed_by_master(principal, user_signing, "user_signing", key),
    )
    _check_one_role_each([keys.master, keys.self_signing, keys.user_signing])
    return keys


def read_master(principal: bytes, data: bytes) -> bytes:
    """The master key that this object names; what else signed it (a device, another person) is not looked at."""
    return _cross_signing_key(principal, _read(data, _CrossSigningObject)[0], "master")


def read_device_keys(data: bytes, principal: bytes, device: bytes) -> DevicePublic:
    """The keys of a device, signed by itself; `KeysRefusedError` for any other. Whose it is, the device log says."""
    keys, signed = _read(data, _DeviceKeysObject)
    user_id, device_id = user_id_of(principal), device_id_of(device)
    if (keys.user_id, keys.device_id) != (user_id, device_id):
        raise KeysRefusedError(KeysReason.WRONG_OWNER)
    if not set(ALGORITHMS) <= set(keys.algorithms):
        raise KeysRefusedError(KeysReason.WRONG_ALGORITHMS)
    if keys.keys.keys() != {f"ed25519:{device_id}", f"curve25519:{device_id}"}:
        raise KeysRefusedError(KeysReason.MALFORMED)
    try:
        public = DevicePublic(
            read_ed25519(keys.keys[f"ed25519:{device_id}"]), read_curve25519(keys.keys[f"curve25519:{device_id}"])
        )
    except BadKeyError as error:
        raise KeysRefusedError(KeysReason.BAD_KEY) from error
    _check_signed(keys, signed, user_id, device_id, public.ed25519)
    _check_one_role_each([public.ed25519, public.curve25519])
    return public


def read_one_time_key(data: bytes, principal: bytes, device: bytes, ed25519: bytes) -> OneTimeKey:
    """A `signed_curve25519` object of this device, whose `ed25519` has signed it; `KeysRefusedError` for any other."""
    found, signed = _read(data, _OneTimeKeyObject)
    try:
        key = read_curve25519(found.key)
    except BadKeyError as error:
        raise KeysRefusedError(KeysReason.BAD_KEY) from error
    _check_signed(found, signed, user_id_of(principal), device_id_of(device), ed25519)
    return OneTimeKey(key, found.fallback)


def add_signature(data: bytes, principal: bytes, key: SigningKey) -> bytes:
    """The object with one signature more, by a cross-signing key of `principal`."""
    value = decode_canonical(data)
    signatures = msgspec.convert(value.get("signatures", {}), dict[str, dict[str, str]])
    signature = to_base64(key.sign(signed_part(value)).signature)
    of_person = signatures.setdefault(user_id_of(principal), {})
    of_person[f"ed25519:{to_base64(bytes(key.verify_key))}"] = signature
    return encode_canonical({**value, "signatures": signatures})


def cross_signing_object(principal: bytes, usage: str, key: bytes) -> bytes:
    """Matrix' object of a cross-signing key, unsigned."""
    text = to_base64(key)
    return encode_canonical({"user_id": user_id_of(principal), "usage": [usage], "keys": {f"ed25519:{text}": text}})


def _read(data: bytes, kind: type[_Object]) -> tuple[_Object, bytes]:
    """The object, and what of it is signed."""
    if len(data) > KEY_OBJECT_BYTES_MAX:
        raise KeysRefusedError(KeysReason.TOO_LARGE)
    try:
        value = decode_canonical(data)
        return msgspec.convert(value, kind), signed_part(value)
    except (CanonicalError, msgspec.ValidationError) as error:
        raise KeysRefusedError(KeysReason.MALFORMED) from error


def _signed_by_master(principal: bytes, data: bytes, usage: str, master: bytes) -> bytes:
    found, signed = _read(data, _CrossSigningObject)
    key = _cross_signing_key(principal, found, usage)
    _check_signed(found, signed, user_id_of(principal), to_base64(master), master)
    return key


def _cross_signing_key(principal: bytes, found: _CrossSigningObject, usage: str) -> bytes:
    """The one key of the object, which names it by itself."""
    if found.user_id != user_id_of(principal):
        raise KeysRefusedError(KeysReason.WRONG_OWNER)
    if found.usage != [usage]:
        raise KeysRefusedError(KeysReason.WRONG_ROLE)
    if [f"ed25519:{key}" for key in found.keys.values()] != list(found.keys) or len(found.keys) != 1:
        raise KeysRefusedError(KeysReason.MALFORMED)
    try:
        return read_ed25519(*found.keys.values())
    except BadKeyError as error:
        raise KeysRefusedError(KeysReason.BAD_KEY) from error


def _check_signed(found: _Signed, signed: bytes, user_id: str, key_id: str, key: bytes) -> None:
    if not is_signature_text(found.signatures.get(user_id, {}).get(f"ed25519:{key_id}"), signed, key):
        raise KeysRefusedError(KeysReason.WRONG_SIGNATURE)


def _check_one_role_each(keys: list[bytes]) -> None:
    if len(set(keys)) < len(keys):
        raise KeysRefusedError(KeysReason.REUSED_KEY)
