"""The keys that a device shows: signed by itself, offered until the server has them, replaced in time."""

from __future__ import annotations

import pytest

from protocol.canonical import decode_canonical, encode_canonical
from protocol.cross_signing import read_device_keys, read_one_time_key
from protocol.ids import new_id
from protocol.public_keys import is_signature
from tchat.crypto.errors import OtherDeviceError
from tchat.crypto.machine import CryptoMachine
from tchat.crypto.own_keys import FALLBACK_MS_MAX, FALLBACK_MS_MIN, ONE_TIME_KEYS, Upload
from tchat.crypto.state import MemoryState
from tests.tchat.crypto.devices import NOW_MS

PERSON, DEVICE = new_id(), new_id()


@pytest.fixture
def machine() -> CryptoMachine:
    return CryptoMachine(MemoryState(), PERSON, DEVICE, 1)


def prepare(machine: CryptoMachine, *, held: int = 0, now_ms: int = NOW_MS, used: bool = False) -> Upload:
    return machine.prepare_upload(held, now_ms, fallback_used=used)


def test_a_device_signs_its_keys_and_each_one_time_key(machine: CryptoMachine) -> None:
    upload = prepare(machine)
    assert read_device_keys(upload.device_keys, PERSON, DEVICE) == machine.public
    assert len(upload.one_time_keys) == ONE_TIME_KEYS
    for data in upload.one_time_keys.values():
        assert not read_one_time_key(data, PERSON, DEVICE, machine.public.ed25519).fallback
    (fallback,) = upload.fallback_keys.values()
    assert read_one_time_key(fallback, PERSON, DEVICE, machine.public.ed25519).fallback
    assert decode_canonical(fallback)["fallback"] is True


def test_what_a_device_signs_is_checked_by_its_key(machine: CryptoMachine) -> None:
    assert is_signature(machine.sign(b"roster"), b"roster", machine.public.ed25519)


def test_an_upload_whose_answer_was_lost_is_repeated_as_it_was(machine: CryptoMachine) -> None:
    assert prepare(machine) == prepare(machine, now_ms=NOW_MS + 1)


def test_only_keys_that_the_server_lacks_are_made(machine: CryptoMachine) -> None:
    machine.uploaded(prepare(machine))
    assert not prepare(machine, held=ONE_TIME_KEYS).one_time_keys
    assert len(prepare(machine, held=ONE_TIME_KEYS - 3).one_time_keys) == 3


def test_keys_that_were_made_while_an_upload_was_under_way_are_offered(machine: CryptoMachine) -> None:
    machine.uploaded(prepare(machine))
    first = prepare(machine, held=49)
    later = prepare(machine, held=49, now_ms=NOW_MS + FALLBACK_MS_MAX)
    machine.uploaded(first)
    again = prepare(machine, held=50, now_ms=NOW_MS + FALLBACK_MS_MAX)
    assert again.fallback_keys == later.fallback_keys != {}
    machine.uploaded(again)
    assert not prepare(machine, held=50, now_ms=NOW_MS + FALLBACK_MS_MAX).fallback_keys


@pytest.mark.parametrize(
    ("after_ms", "used", "replaced"),
    [
        (FALLBACK_MS_MIN - 1, True, False),
        (FALLBACK_MS_MIN, True, True),
        (FALLBACK_MS_MAX - 1, False, False),
        (FALLBACK_MS_MAX, False, True),
        (-1, False, True),
    ],
)
def test_a_fallback_key_is_replaced_when_it_was_used_and_weekly(
    machine: CryptoMachine, after_ms: int, used: bool, replaced: bool
) -> None:
    machine.uploaded(prepare(machine))
    assert bool(prepare(machine, now_ms=NOW_MS + after_ms, used=used).fallback_keys) == replaced


def test_a_state_keeps_its_keys_and_makes_others_only_for_a_higher_generation() -> None:
    state = MemoryState()
    first = CryptoMachine(state, PERSON, DEVICE, 1)
    assert CryptoMachine(state, PERSON, DEVICE, 1).device_keys == first.device_keys
    second = CryptoMachine(state, PERSON, DEVICE, 2)
    assert second.public.ed25519 != first.public.ed25519
    for device, generation in ((DEVICE, 1), (new_id(), 2)):
        with pytest.raises(OtherDeviceError):
            CryptoMachine(state, PERSON, device, generation)


def test_an_upload_of_the_generation_before_publishes_nothing() -> None:
    state = MemoryState()
    before = prepare(CryptoMachine(state, PERSON, DEVICE, 1))
    machine = CryptoMachine(state, PERSON, DEVICE, 2)
    upload = prepare(machine)
    machine.uploaded(before)
    assert prepare(machine) == upload


def test_the_signature_of_the_keys_covers_all_of_them(machine: CryptoMachine) -> None:
    value = decode_canonical(machine.device_keys)
    value["algorithms"] = [*value["algorithms"], "none"]  # type: ignore[misc]
    with pytest.raises(ValueError, match="signature"):
        read_device_keys(encode_canonical(value), PERSON, DEVICE)
