"""A device log grows by its master's signature alone, and each way to be wrong has its reason."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from protocol.canonical import decode_canonical, encode_canonical, signed_part, to_base64, user_id_of
from protocol.device_log import (
    LogAction,
    LogError,
    LogReason,
    LogState,
    extend,
    fold,
    next_entry,
    start_log,
)
from protocol.ids import new_id
from protocol.limits import DEVICE_LOG_ENTRIES_MAX, DEVICE_LOG_ENTRY_BYTES_MAX, DEVICES_PER_PERSON_MAX, N_MAX
from protocol.public_keys import DevicePublic
from tests.support.key_pairs import device_keys

MASTER = SigningKey(bytes([1]) * 32)
STRANGER = SigningKey(bytes([2]) * 32)
BOB = bytes([0xB0]) * 16
PHONE, LAPTOP = bytes([1]) * 16, bytes([2]) * 16
PHONE_KEYS, LAPTOP_KEYS = device_keys(1), device_keys(2)
LOW_ORDER = to_base64(bytes(32))

START = start_log(BOB, 1, b"", at_ms=1_000, master=MASTER)
EMPTY = fold(BOB, [START])


def entry(
    state: LogState, action: LogAction, device: bytes, keys: DevicePublic | None = None, master: SigningKey = MASTER
) -> bytes:
    return next_entry(state, action, device, keys, at_ms=2_000, master=master)


def grown(state: LogState, *changes: tuple[LogAction, bytes, DevicePublic | None]) -> LogState:
    for change in changes:
        state = extend(state, [entry(state, *change)])
    return state


ADD_PHONE = entry(EMPTY, LogAction.ADDED, PHONE, PHONE_KEYS)
WITH_PHONE = extend(EMPTY, [ADD_PHONE])
ADD_LAPTOP = entry(WITH_PHONE, LogAction.ADDED, LAPTOP, LAPTOP_KEYS)
ADD_UNDER_ANOTHER_MASTER = entry(EMPTY, LogAction.ADDED, PHONE, PHONE_KEYS, STRANGER)
ADD_WITH_KEYS_OF_PHONE = entry(WITH_PHONE, LogAction.ADDED, LAPTOP, PHONE_KEYS)


def changed(data: bytes, by: SigningKey = MASTER, /, **fields: object) -> bytes:
    """The entry with other fields, signed again, as its name for the master key says."""
    value = {**decode_canonical(data), **fields}
    return encode_canonical(value) if "signatures" in fields else signed_again(value, by)


def signed_again(value: dict[str, object], by: SigningKey = MASTER) -> bytes:
    signature = to_base64(by.sign(signed_part(value)).signature)
    whole = {str(value["user_id"]): {f"ed25519:{value['master']}": signature}}
    return encode_canonical({**value, "signatures": whole})


def without(data: bytes, field: str) -> bytes:
    return changed(encode_canonical({key: value for key, value in decode_canonical(data).items() if key != field}))


def test_a_log_says_which_devices_a_person_has() -> None:
    state = fold(BOB, [START, ADD_PHONE, ADD_LAPTOP])
    assert state.devices == {PHONE: PHONE_KEYS, LAPTOP: LAPTOP_KEYS}
    assert (state.principal, state.generation, state.length) == (BOB, 1, 3)
    assert state.master == bytes(MASTER.verify_key)
    assert grown(state, (LogAction.REMOVED, PHONE, None)).devices == {LAPTOP: LAPTOP_KEYS}


def test_a_log_read_in_parts_is_the_log_read_at_once() -> None:
    whole = fold(BOB, [START, ADD_PHONE, ADD_LAPTOP])
    assert extend(extend(fold(BOB, [START]), [ADD_PHONE]), [ADD_LAPTOP]) == whole
    assert extend(whole, []) == whole
    assert whole.heads[:2] == WITH_PHONE.heads


def test_it_says_since_when_a_device_has_its_keys() -> None:
    later = next_entry(WITH_PHONE, LogAction.KEYS_CHANGED, PHONE, LAPTOP_KEYS, at_ms=3_000, master=MASTER)
    assert [(one.until, one.at_ms) for one in extend(WITH_PHONE, [later]).listed] == [(2, 2_000), (None, 3_000)]


def test_a_device_with_new_keys_has_only_these() -> None:
    state = grown(WITH_PHONE, (LogAction.KEYS_CHANGED, PHONE, device_keys(3)))
    assert state.devices == {PHONE: device_keys(3)}


def test_a_removed_device_returns_with_new_keys_only() -> None:
    removed = grown(WITH_PHONE, (LogAction.REMOVED, PHONE, None))
    assert grown(removed, (LogAction.ADDED, PHONE, device_keys(3))).devices == {PHONE: device_keys(3)}
    with pytest.raises(LogError) as refused:
        grown(removed, (LogAction.ADDED, PHONE, PHONE_KEYS))
    assert refused.value.reason is LogReason.REUSED_KEY


def test_a_device_is_believed_for_the_time_that_it_was_in_the_log() -> None:
    state = grown(WITH_PHONE, (LogAction.KEYS_CHANGED, PHONE, LAPTOP_KEYS), (LogAction.REMOVED, PHONE, None))
    assert [state.keys_at(PHONE, length) for length in range(5)] == [None, None, PHONE_KEYS, LAPTOP_KEYS, None]
    assert WITH_PHONE.keys_at(PHONE, 1_000) == PHONE_KEYS
    assert state.keys_at(LAPTOP, 3) is None


def test_nothing_is_believed_of_entries_of_which_one_is_wrong() -> None:
    with pytest.raises(LogError):
        extend(EMPTY, [ADD_PHONE, changed(ADD_LAPTOP, STRANGER)])
    assert EMPTY.devices == {}
    assert EMPTY.length == 1


def test_a_new_identity_names_the_head_of_the_log_before() -> None:
    state = fold(BOB, [start_log(BOB, 2, WITH_PHONE.head, at_ms=3_000, master=STRANGER)])
    assert (state.generation, state.master, state.devices) == (2, bytes(STRANGER.verify_key), {})


def test_a_state_is_kept_as_bytes() -> None:
    whole = fold(BOB, [START, ADD_PHONE, ADD_LAPTOP])
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(whole), type=LogState) == whole


def test_the_largest_entry_fits() -> None:
    state = msgspec.structs.replace(EMPTY, generation=N_MAX, heads=EMPTY.heads * DEVICE_LOG_ENTRIES_MAX)
    largest = next_entry(state, LogAction.KEYS_CHANGED, PHONE, PHONE_KEYS, at_ms=N_MAX, master=MASTER)
    assert len(largest) <= DEVICE_LOG_ENTRY_BYTES_MAX


def nested(value: object) -> object:
    return {user_id_of(BOB): {"ed25519:x": value}}


WRONG: dict[str, tuple[LogReason, LogState, Sequence[bytes]]] = {
    "not JSON": (LogReason.MALFORMED, EMPTY, [b"\0"]),
    "not canonical": (LogReason.MALFORMED, EMPTY, [ADD_PHONE + b" "]),
    "of another type": (LogReason.MALFORMED, EMPTY, [changed(ADD_PHONE, type="m.room.message")]),
    "with a field that nobody checks": (LogReason.MALFORMED, EMPTY, [changed(ADD_PHONE, note="x")]),
    "with an unknown action": (LogReason.MALFORMED, EMPTY, [changed(ADD_PHONE, action="blessed")]),
    "of a removal with keys": (LogReason.MALFORMED, WITH_PHONE, [changed(ADD_LAPTOP, action="removed")]),
    "of an addition without a key": (LogReason.MALFORMED, EMPTY, [without(ADD_PHONE, "curve25519")]),
    "of an addition with a key of null": (LogReason.BAD_KEY, EMPTY, [changed(ADD_PHONE, curve25519=None)]),
    "of no device of ours": (LogReason.MALFORMED, EMPTY, [changed(ADD_PHONE, device_id="JLAFKJWSCS")]),
    "with a time that is no number": (LogReason.MALFORMED, EMPTY, [changed(ADD_PHONE, at_ms=True)]),
    "with a name for an index": (LogReason.MALFORMED, EMPTY, [changed(ADD_PHONE, index="1")]),
    "too large": (LogReason.TOO_LARGE, EMPTY, [changed(ADD_PHONE, device_id="0" * 1024)]),
    "of another person": (LogReason.WRONG_OWNER, EMPTY, [changed(ADD_PHONE, user_id=user_id_of(new_id()))]),
    "of another generation": (LogReason.WRONG_GENERATION, EMPTY, [changed(ADD_PHONE, generation=2)]),
    "left out": (LogReason.WRONG_INDEX, EMPTY, [ADD_LAPTOP]),
    "doubled": (LogReason.WRONG_INDEX, EMPTY, [ADD_PHONE, ADD_PHONE]),
    "after another one than ours": (
        LogReason.WRONG_PREVIOUS,
        grown(EMPTY, (LogAction.ADDED, LAPTOP, LAPTOP_KEYS)),
        [entry(WITH_PHONE, LogAction.REMOVED, PHONE)],
    ),
    "after no hash": (LogReason.WRONG_PREVIOUS, EMPTY, [changed(ADD_PHONE, previous="?")]),
    "under another master": (
        LogReason.WRONG_MASTER,
        EMPTY,
        [entry(EMPTY, LogAction.ADDED, PHONE, PHONE_KEYS, STRANGER)],
    ),
    "signed by a stranger": (LogReason.WRONG_SIGNATURE, EMPTY, [changed(ADD_PHONE, STRANGER)]),
    "unsigned": (LogReason.WRONG_SIGNATURE, EMPTY, [changed(ADD_PHONE, signatures={})]),
    "with a signature of another key": (LogReason.WRONG_SIGNATURE, EMPTY, [changed(ADD_PHONE, signatures=nested("x"))]),
    "started again": (
        LogReason.STARTED_TWICE,
        EMPTY,
        [changed(START, index=1, previous=to_base64(EMPTY.head))],
    ),
    "with a zero key": (LogReason.BAD_KEY, EMPTY, [changed(ADD_PHONE, curve25519=LOW_ORDER)]),
    "with a short key": (LogReason.BAD_KEY, EMPTY, [changed(ADD_PHONE, ed25519=to_base64(bytes(31)))]),
    "with the master's key": (
        LogReason.REUSED_KEY,
        EMPTY,
        [changed(ADD_PHONE, ed25519=to_base64(bytes(MASTER.verify_key)))],
    ),
    "with another device's key": (
        LogReason.REUSED_KEY,
        WITH_PHONE,
        [entry(WITH_PHONE, LogAction.ADDED, LAPTOP, PHONE_KEYS)],
    ),
    "adding a device twice": (
        LogReason.KNOWN_DEVICE,
        WITH_PHONE,
        [entry(WITH_PHONE, LogAction.ADDED, PHONE, LAPTOP_KEYS)],
    ),
    "removing a stranger's device": (LogReason.UNKNOWN_DEVICE, EMPTY, [entry(EMPTY, LogAction.REMOVED, PHONE)]),
    "changing a stranger's keys": (
        LogReason.UNKNOWN_DEVICE,
        EMPTY,
        [entry(EMPTY, LogAction.KEYS_CHANGED, PHONE, PHONE_KEYS)],
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_an_entry_is_refused_that_is(what: str) -> None:
    reason, state, entries = WRONG[what]
    with pytest.raises(LogError) as refused:
        extend(state, entries)
    assert refused.value.reason is reason


@given(st.integers(0, len(ADD_PHONE) - 1), st.integers(1, 255))
def test_a_changed_byte_anywhere_is_refused(place: int, flipped: int) -> None:
    data = ADD_PHONE[:place] + bytes([ADD_PHONE[place] ^ flipped]) + ADD_PHONE[place + 1 :]
    with pytest.raises(LogError):
        extend(EMPTY, [data])


FIELDS = st.sampled_from(sorted(decode_canonical(ADD_PHONE)))
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-1, N_MAX), st.text(max_size=50), st.lists(st.none(), max_size=1), st.just({})
)


@given(st.dictionaries(FIELDS, VALUES, min_size=1, max_size=3))
def test_other_fields_are_refused_and_never_worse(fields: dict[str, object]) -> None:
    """Signed by the right key or not; a changed time is believed, since nobody else knows it."""
    value = {**decode_canonical(ADD_PHONE), **fields}
    data = encode_canonical(value) if "signatures" in fields else signed_again(value)
    try:
        extend(EMPTY, [data])
    except LogError:
        return
    assert {key for key in fields if fields[key] != decode_canonical(ADD_PHONE)[key]} <= {"at_ms"}


BAD_STARTS: dict[str, tuple[LogReason, Sequence[bytes]]] = {
    "has nothing": (LogReason.NOT_STARTED, []),
    "begins in its middle": (LogReason.NOT_STARTED, [ADD_PHONE]),
    "is of another person": (LogReason.WRONG_OWNER, [start_log(new_id(), 1, b"", at_ms=0, master=MASTER)]),
    "is first and has one before": (
        LogReason.WRONG_PREVIOUS,
        [start_log(BOB, 1, bytes(32), at_ms=0, master=MASTER)],
    ),
    "is the second and names none": (LogReason.WRONG_PREVIOUS, [start_log(BOB, 2, b"", at_ms=0, master=MASTER)]),
    "names no hash": (LogReason.WRONG_PREVIOUS, [start_log(BOB, 2, bytes(31), at_ms=0, master=MASTER)]),
    "has a zero master": (LogReason.BAD_KEY, [changed(START, master=LOW_ORDER)]),
    "is signed by a stranger": (LogReason.WRONG_SIGNATURE, [changed(START, STRANGER)]),
    "starts at 1": (LogReason.WRONG_INDEX, [changed(START, index=1)]),
    "has no generation": (LogReason.MALFORMED, [changed(START, generation=0)]),
    "starts with a device": (LogReason.MALFORMED, [changed(START, device_id=PHONE.hex())]),
}


@pytest.mark.parametrize("what", BAD_STARTS)
def test_a_log_is_refused_that(what: str) -> None:
    reason, entries = BAD_STARTS[what]
    with pytest.raises(LogError) as refused:
        fold(BOB, entries)
    assert refused.value.reason is reason


def log_of(length: int, change: tuple[LogAction, bytes, DevicePublic | None]) -> LogState:
    """A log with this change after `length` entries."""
    return grown(msgspec.structs.replace(WITH_PHONE, heads=WITH_PHONE.heads[-1:] * length), change)


def test_devices_are_not_endless() -> None:
    devices = [bytes([10 + number]) * 16 for number in range(DEVICES_PER_PERSON_MAX)]
    added = [(LogAction.ADDED, device, device_keys(device[0])) for device in devices]
    state = grown(EMPTY, *added)
    with pytest.raises(LogError) as refused:
        grown(state, (LogAction.ADDED, PHONE, PHONE_KEYS))
    assert refused.value.reason is LogReason.TOO_MANY_DEVICES
    changed_keys = (LogAction.KEYS_CHANGED, devices[0], LAPTOP_KEYS)
    grown(state, changed_keys, (LogAction.REMOVED, devices[1], None), (LogAction.ADDED, PHONE, PHONE_KEYS))


def test_a_full_log_takes_removals_only() -> None:
    almost = DEVICE_LOG_ENTRIES_MAX - DEVICES_PER_PERSON_MAX
    log_of(almost - 1, (LogAction.ADDED, LAPTOP, LAPTOP_KEYS))
    with pytest.raises(LogError) as refused:
        log_of(almost, (LogAction.ADDED, LAPTOP, LAPTOP_KEYS))
    assert refused.value.reason is LogReason.TOO_MANY_ENTRIES
    log_of(DEVICE_LOG_ENTRIES_MAX - 1, (LogAction.REMOVED, PHONE, None))
    with pytest.raises(LogError) as refused:
        log_of(DEVICE_LOG_ENTRIES_MAX, (LogAction.REMOVED, PHONE, None))
    assert refused.value.reason is LogReason.TOO_MANY_ENTRIES


def test_every_reason_has_a_sentence_and_a_test() -> None:
    limits = {LogReason.TOO_MANY_DEVICES, LogReason.TOO_MANY_ENTRIES}
    assert all(reason.sentence for reason in LogReason)
    assert {reason for reason, *_ in (*WRONG.values(), *BAD_STARTS.values())} | limits == set(LogReason)
