"""Key objects in Matrix' formats: believed only whole, of their owner, and signed by the right key."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import vodozemac
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from protocol.canonical import (
    decode_canonical,
    device_id_of,
    encode_canonical,
    signed_part,
    to_base64,
    user_id_of,
)
from protocol.cross_signing import (
    ALGORITHMS,
    CrossSigningKeys,
    KeysReason,
    KeysRefusedError,
    add_signature,
    cross_signing_object,
    read_cross_signing,
    read_device_keys,
    read_one_time_key,
)
from protocol.ids import new_id
from protocol.limits import KEY_OBJECT_BYTES_MAX
from protocol.public_keys import BadKeyError, DevicePublic, read_curve25519, read_ed25519
from tests.support.key_pairs import device_keys, device_signing_key

BOB, ALICE = bytes([0xB0]) * 16, bytes([0xA1]) * 16
PHONE = bytes([1]) * 16
MASTER, SELF_SIGNING, USER_SIGNING, STRANGER = (SigningKey(bytes([number]) * 32) for number in (1, 2, 3, 4))


def public(key: SigningKey) -> bytes:
    return bytes(key.verify_key)


IDENTITY = CrossSigningKeys(public(MASTER), public(SELF_SIGNING), public(USER_SIGNING))
MASTER_OBJECT = cross_signing_object(BOB, "master", public(MASTER))
SELF_SIGNING_OBJECT = add_signature(cross_signing_object(BOB, "self_signing", public(SELF_SIGNING)), BOB, MASTER)
USER_SIGNING_OBJECT = add_signature(cross_signing_object(BOB, "user_signing", public(USER_SIGNING)), BOB, MASTER)


def signed_by_device(value: dict[str, object], key: SigningKey, principal: bytes = BOB) -> bytes:
    signature = to_base64(key.sign(signed_part(value)).signature)
    signatures = {user_id_of(principal): {f"ed25519:{device_id_of(PHONE)}": signature}}
    return encode_canonical({**value, "signatures": signatures})


PHONE_KEYS, PHONE_SIGNS, OTHER_SIGNS = device_keys(1), device_signing_key(1), device_signing_key(2)


def device_object(public: DevicePublic = PHONE_KEYS, by: SigningKey = PHONE_SIGNS, /, **fields: object) -> bytes:
    names = {"ed25519": to_base64(public.ed25519), "curve25519": to_base64(public.curve25519)}
    value = {
        "algorithms": list(ALGORITHMS),
        "device_id": device_id_of(PHONE),
        "keys": {f"{name}:{device_id_of(PHONE)}": key for name, key in names.items()},
        "user_id": user_id_of(BOB),
    }
    return signed_by_device({**value, **fields}, by)


def one_time_key(**fields: object) -> bytes:
    return signed_by_device({"key": to_base64(device_keys(9).curve25519), **fields}, PHONE_SIGNS)


def altered(data: bytes, **fields: object) -> bytes:
    return encode_canonical({**decode_canonical(data), **fields})


def test_an_identity_is_three_keys_of_which_one_signs_the_others() -> None:
    assert read_cross_signing(BOB, MASTER_OBJECT, SELF_SIGNING_OBJECT, USER_SIGNING_OBJECT) == IDENTITY


def test_a_device_signs_its_own_keys() -> None:
    assert read_device_keys(device_object(), BOB, PHONE) == PHONE_KEYS


def test_keys_of_an_account_of_vodozemac_are_read() -> None:
    account = vodozemac.Account()
    keys = {"ed25519": account.ed25519_key.to_base64(), "curve25519": account.curve25519_key.to_base64()}
    value = {
        "algorithms": list(ALGORITHMS),
        "device_id": device_id_of(PHONE),
        "keys": {f"{name}:{device_id_of(PHONE)}": key for name, key in keys.items()},
        "user_id": user_id_of(BOB),
    }
    signature = account.sign(signed_part(value)).to_base64()
    value["signatures"] = {user_id_of(BOB): {f"ed25519:{device_id_of(PHONE)}": signature}}
    assert to_base64(read_device_keys(encode_canonical(value), BOB, PHONE).ed25519) == keys["ed25519"]


@pytest.mark.parametrize("fallback", [False, True])
def test_a_one_time_key_is_signed_by_its_device(fallback: bool) -> None:
    data = one_time_key(fallback=True) if fallback else one_time_key()
    found = read_one_time_key(data, BOB, PHONE, PHONE_KEYS.ed25519)
    assert (found.key, found.fallback) == (device_keys(9).curve25519, fallback)


def test_signatures_are_added_to_those_that_are_there() -> None:
    twice = add_signature(SELF_SIGNING_OBJECT, ALICE, STRANGER)
    assert read_cross_signing(BOB, MASTER_OBJECT, twice, USER_SIGNING_OBJECT) == IDENTITY


def identity(
    master: bytes = MASTER_OBJECT, self_signing: bytes = SELF_SIGNING_OBJECT, user_signing: bytes = USER_SIGNING_OBJECT
) -> None:
    read_cross_signing(BOB, master, self_signing, user_signing)


def device(data: bytes) -> None:
    read_device_keys(data, BOB, PHONE)


def one_time(data: bytes) -> None:
    read_one_time_key(data, BOB, PHONE, PHONE_KEYS.ed25519)


def role(usage: str, key: SigningKey, by: SigningKey = MASTER) -> bytes:
    return add_signature(cross_signing_object(BOB, usage, public(key)), BOB, by)


ZERO = to_base64(bytes(32))
TWO_ROLES_OF = next(number for number in range(99) if device_keys(number).ed25519[31] < 0x80)
TWO_ROLES = device_keys(TWO_ROLES_OF).ed25519
"""A key for signatures that could be one for channels."""
WRONG_NAME = {"ed25519:x": ZERO}
TWO_NAMES = {"ed25519:x": "x", "ed25519:y": "y"}
REFUSED: dict[str, tuple[KeysReason, Callable[[], None]]] = {
    "no JSON": (KeysReason.MALFORMED, lambda: identity(master=b"{")),
    "too large": (KeysReason.TOO_LARGE, lambda: identity(master=b" " * (KEY_OBJECT_BYTES_MAX + 1))),
    "another's master": (
        KeysReason.WRONG_OWNER,
        lambda: identity(master=cross_signing_object(ALICE, "master", public(MASTER))),
    ),
    "a self-signing key as master": (KeysReason.WRONG_ROLE, lambda: identity(master=SELF_SIGNING_OBJECT)),
    "exchanged roles": (KeysReason.WRONG_ROLE, lambda: identity(self_signing=USER_SIGNING_OBJECT)),
    "two uses of one key": (KeysReason.WRONG_ROLE, lambda: identity(altered(MASTER_OBJECT, usage=["master", "x"]))),
    "two keys in one object": (KeysReason.MALFORMED, lambda: identity(altered(MASTER_OBJECT, keys=TWO_NAMES))),
    "no key": (KeysReason.MALFORMED, lambda: identity(altered(MASTER_OBJECT, keys={}))),
    "a key under another name": (
        KeysReason.MALFORMED,
        lambda: identity(altered(MASTER_OBJECT, keys={"ed25519:x": ZERO})),
    ),
    "a field that nobody checks": (KeysReason.MALFORMED, lambda: identity(altered(MASTER_OBJECT, note="x"))),
    "a zero master": (KeysReason.BAD_KEY, lambda: identity(cross_signing_object(BOB, "master", bytes(32)))),
    "an unsigned self-signing key": (
        KeysReason.WRONG_SIGNATURE,
        lambda: identity(self_signing=cross_signing_object(BOB, "self_signing", public(SELF_SIGNING))),
    ),
    "a self-signing key of a stranger": (
        KeysReason.WRONG_SIGNATURE,
        lambda: identity(self_signing=role("self_signing", SELF_SIGNING, STRANGER)),
    ),
    "signatures that are no map": (
        KeysReason.MALFORMED,
        lambda: identity(self_signing=altered(SELF_SIGNING_OBJECT, signatures={user_id_of(BOB): []})),
    ),
    "one key for two roles": (KeysReason.REUSED_KEY, lambda: identity(user_signing=role("user_signing", SELF_SIGNING))),
    "the master in another role": (KeysReason.REUSED_KEY, lambda: identity(self_signing=role("self_signing", MASTER))),
    "another person's device": (KeysReason.WRONG_OWNER, lambda: device(device_object(user_id=user_id_of(ALICE)))),
    "another device": (KeysReason.WRONG_OWNER, lambda: device(device_object(device_id=device_id_of(new_id())))),
    "a device without Megolm": (KeysReason.WRONG_ALGORITHMS, lambda: device(device_object(algorithms=[ALGORITHMS[0]]))),
    "a device with one key": (KeysReason.MALFORMED, lambda: device(device_object(keys={"ed25519:x": ZERO}))),
    "a device with a zero key": (
        KeysReason.BAD_KEY,
        lambda: device(device_object(DevicePublic(PHONE_KEYS.ed25519, bytes(32)))),
    ),
    "a device that another signed": (
        KeysReason.WRONG_SIGNATURE,
        lambda: device(device_object(PHONE_KEYS, OTHER_SIGNS)),
    ),
    "a device with the keys of another": (KeysReason.WRONG_SIGNATURE, lambda: device(device_object(device_keys(2)))),
    "a device with one key for two roles": (
        KeysReason.REUSED_KEY,
        lambda: device(device_object(DevicePublic(TWO_ROLES, TWO_ROLES), device_signing_key(TWO_ROLES_OF))),
    ),
    "a one-time key of another": (
        KeysReason.WRONG_SIGNATURE,
        lambda: one_time(signed_by_device({"key": to_base64(device_keys(9).curve25519)}, device_signing_key(2))),
    ),
    "a one-time key signed as another": (
        KeysReason.WRONG_SIGNATURE,
        lambda: one_time(signed_by_device({"key": to_base64(device_keys(9).curve25519)}, PHONE_SIGNS, ALICE)),
    ),
    "a one-time key made a fallback": (
        KeysReason.WRONG_SIGNATURE,
        lambda: one_time(altered(one_time_key(), fallback=True)),
    ),
    "a zero one-time key": (KeysReason.BAD_KEY, lambda: one_time(one_time_key(key=ZERO))),
    "a fallback that is no boolean": (KeysReason.MALFORMED, lambda: one_time(one_time_key(fallback=1))),
}


@pytest.mark.parametrize("what", REFUSED)
def test_keys_are_refused(what: str) -> None:
    reason, read = REFUSED[what]
    with pytest.raises(KeysRefusedError) as refused:
        read()
    assert refused.value.reason is reason


@given(st.sampled_from([MASTER_OBJECT, SELF_SIGNING_OBJECT, device_object(), one_time_key()]), st.data())
def test_a_changed_byte_is_refused_and_never_worse(whole: bytes, data: st.DataObject) -> None:
    place, flipped = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(1, 255))
    changed = whole[:place] + bytes([whole[place] ^ flipped]) + whole[place + 1 :]
    for read in (device, one_time, lambda it: identity(self_signing=it), lambda it: identity(user_signing=it)):
        with pytest.raises(KeysRefusedError):
            read(changed)


def test_every_reason_has_a_sentence_and_a_test() -> None:
    assert {reason for reason, _ in REFUSED.values()} == set(KeysReason)
    assert all(reason.sentence for reason in KeysReason)


LOW_ORDER_CURVE25519 = [  # points of order 8 and below (RFC 7748, section 6.1), in all their forms
    *(number.to_bytes(32, "little") for number in (0, 1, 2**255 - 20, 2**255 - 19, 2**255 - 18, 2**255 - 1)),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
]


@pytest.mark.parametrize("key", LOW_ORDER_CURVE25519, ids=bytes.hex)
def test_a_curve25519_key_of_low_order_is_refused(key: bytes) -> None:
    with pytest.raises(BadKeyError):
        read_curve25519(to_base64(key))


@pytest.mark.parametrize("number", [0, 1, 2, 2**255 - 20, 2**255 - 18], ids=hex)
def test_an_ed25519_key_that_signs_anything_or_nothing_is_refused(number: int) -> None:
    with pytest.raises(BadKeyError):
        read_ed25519(to_base64(number.to_bytes(32, "little")))


@pytest.mark.parametrize("text", [None, 1, "", "=", to_base64(bytes(31)), to_base64(bytes(33))])
def test_what_is_no_key_at_all_is_refused(text: object) -> None:
    for read in (read_ed25519, read_curve25519):
        with pytest.raises(BadKeyError):
            read(text)
