"""An identity signs what its device log and Matrix' libraries check."""

from __future__ import annotations

import pytest

from protocol.canonical import device_id_of, encode_canonical, signed_part, to_base64, user_id_of
from protocol.cross_signing import ALGORITHMS, read_cross_signing, read_device_keys
from protocol.device_log import LogError, LogReason, fold
from tchat.crypto.own_identity import SECRET_BYTES, OwnIdentity, new_identity
from tests.support.key_pairs import bears_signature, device_keys, device_signing_key

BOB, ALICE = bytes([0xB0]) * 16, bytes([0xA1]) * 16
PHONE = bytes([1]) * 16


def device_object() -> bytes:
    names = {"ed25519": device_keys(1).ed25519, "curve25519": device_keys(1).curve25519}
    value: dict[str, object] = {
        "algorithms": list(ALGORITHMS),
        "device_id": device_id_of(PHONE),
        "keys": {f"{name}:{device_id_of(PHONE)}": to_base64(key) for name, key in names.items()},
        "user_id": user_id_of(BOB),
    }
    signature = to_base64(device_signing_key(1).sign(signed_part(value)).signature)
    return encode_canonical({**value, "signatures": {user_id_of(BOB): {f"ed25519:{device_id_of(PHONE)}": signature}}})


def test_others_read_the_identity_from_its_objects() -> None:
    identity = OwnIdentity(BOB, 1)
    objects = identity.objects()
    found = read_cross_signing(BOB, objects.master, objects.self_signing, objects.user_signing)
    assert found == identity.public


def test_devices_come_and_go_by_its_signature() -> None:
    identity, log, first = new_identity(BOB, None, 1)
    log, added = identity.add_device(log, PHONE, device_keys(1), 2)
    log, changed = identity.change_keys(log, PHONE, device_keys(2), 3)
    assert log.devices == {PHONE: device_keys(2)}
    log, removed = identity.remove_device(log, PHONE, 4)
    assert fold(BOB, [first, added, changed, removed]) == log
    assert log.devices == {}


def test_an_entry_that_others_refuse_is_not_made() -> None:
    identity, log, _ = new_identity(BOB, None, 1)
    with pytest.raises(LogError) as refused:
        identity.remove_device(log, PHONE, 2)
    assert refused.value.reason is LogReason.UNKNOWN_DEVICE


def test_a_device_is_signed_for_matrix_libraries() -> None:
    identity = OwnIdentity(BOB, 1)
    signed = identity.sign_device(device_object())
    assert read_device_keys(signed, BOB, PHONE) == device_keys(1)
    assert bears_signature(signed, BOB, identity.public.self_signing)


def test_a_new_identity_follows_the_one_before() -> None:
    first, log, _ = new_identity(BOB, None, 1)
    second, log_of_second, _ = new_identity(BOB, log, 2)
    assert (first.generation, second.generation) == (1, 2)
    assert first.owns(log)
    assert not first.owns(log_of_second)
    assert not OwnIdentity(BOB, 1).owns(log)
    assert second.public.master != first.public.master


def test_an_identity_is_made_again_from_its_secret() -> None:
    identity = OwnIdentity(BOB, 3)
    again = OwnIdentity.from_secret(BOB, 3, identity.secret)
    assert again.public == identity.public
    assert len(identity.secret) == SECRET_BYTES
    with pytest.raises(ValueError, match="96 bytes"):
        OwnIdentity.from_secret(BOB, 3, identity.secret[:-1])


def test_an_identity_does_not_show_its_secret() -> None:
    identity = OwnIdentity(BOB, 1)
    text = f"{identity!r} {identity}"
    assert identity.secret[:32].hex() not in text
    assert to_base64(identity.secret[:32]) not in text
    assert "master" not in text
