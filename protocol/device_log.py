"""The device log: which devices a person says are theirs, signed and chained, so that nobody else adds one.

- A log belongs to one identity: a principal and a `generation`. Its first entry, `started`, names the master key; the
  master key signs every entry. A new identity starts a new log, whose `previous` is the head of the log before.
- An entry is canonical JSON. Its hash covers all of its bytes, and the next entry names it: two logs with the same head
  are the same log.
- A key has one use in a log: master key, or one of the two keys of one device. A device that comes back has new keys.
- A device counts from `added` to `removed`. At most DEVICES_PER_PERSON_MAX count at a time.

The server refuses with these rules, and every client believes by them: neither needs the other's word.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Annotated, Literal

import msgspec
from nacl.signing import SigningKey

from protocol.canonical import (
    CanonicalError,
    decode_canonical,
    device_id_of,
    device_of,
    encode_canonical,
    frame,
    from_base64,
    signed_part,
    to_base64,
    user_id_of,
)
from protocol.limits import (
    DEVICE_LOG_ENTRIES_MAX,
    DEVICE_LOG_ENTRY_BYTES_MAX,
    DEVICES_PER_PERSON_MAX,
    N_MAX,
)
from protocol.public_keys import BadKeyError, DevicePublic, is_signature_text, read_curve25519, read_ed25519

_DOMAIN = b"tchat/device-log/1"
_HASH_BYTES = 32
_TYPE = "tchat.device_log"


class LogAction(StrEnum):
    """What an entry says."""

    STARTED = "started"
    ADDED = "added"
    REMOVED = "removed"
    KEYS_CHANGED = "keys_changed"


class LogReason(StrEnum):
    """Why a log is not believed."""

    MALFORMED = "malformed"
    TOO_LARGE = "too_large"
    WRONG_OWNER = "wrong_owner"
    WRONG_GENERATION = "wrong_generation"
    WRONG_INDEX = "wrong_index"
    WRONG_PREVIOUS = "wrong_previous"
    WRONG_MASTER = "wrong_master"
    WRONG_SIGNATURE = "wrong_signature"
    NOT_STARTED = "not_started"
    STARTED_TWICE = "started_twice"
    BAD_KEY = "bad_key"
    REUSED_KEY = "reused_key"
    KNOWN_DEVICE = "known_device"
    UNKNOWN_DEVICE = "unknown_device"
    TOO_MANY_DEVICES = "too_many_devices"
    TOO_MANY_ENTRIES = "too_many_entries"

    @property
    def sentence(self) -> str:
        """What is wrong, for who made the entries."""
        return _SENTENCES[self]


_SENTENCES = {
    LogReason.MALFORMED: "an entry is not the canonical JSON of an entry",
    LogReason.TOO_LARGE: f"an entry has more than {DEVICE_LOG_ENTRY_BYTES_MAX} bytes",
    LogReason.WRONG_OWNER: "an entry is of another person",
    LogReason.WRONG_GENERATION: "an entry is of another identity of this person",
    LogReason.WRONG_INDEX: "an entry is missing, doubled or out of order",
    LogReason.WRONG_PREVIOUS: "an entry does not follow the one before it: the log was forked",
    LogReason.WRONG_MASTER: "an entry names another master key than the log",
    LogReason.WRONG_SIGNATURE: "an entry is not signed by the master key",
    LogReason.NOT_STARTED: "the log does not begin with its start",
    LogReason.STARTED_TWICE: "the log starts a second time: a new identity needs a new generation",
    LogReason.BAD_KEY: "a key is malformed, zero or of low order: make a new one",
    LogReason.REUSED_KEY: "a key has been in the log before: make a new one",
    LogReason.KNOWN_DEVICE: "the device is in the log already: change its keys, or remove it first",
    LogReason.UNKNOWN_DEVICE: "the device is not in the log",
    LogReason.TOO_MANY_DEVICES: f"a person has at most {DEVICES_PER_PERSON_MAX} devices: remove one first",
    LogReason.TOO_MANY_ENTRIES: "the log is full: only removals fit; start a new identity",
}


class LogError(ValueError):
    """This log, or this addition to it, is not believed; `reason` is stable, the text says what is wrong."""

    def __init__(self, reason: LogReason) -> None:
        super().__init__(reason.sentence)
        self.reason = reason


class ListedDevice(msgspec.Struct, frozen=True):
    """A device with the keys that it had from one entry (`since`, its index) to another (`until`; None: to the end)."""

    device: bytes
    keys: DevicePublic
    since: int
    until: int | None = None
    at_ms: int = 0
    """When its keys came, as its person's device had the time; 0: not known."""


class LogState(msgspec.Struct, frozen=True):
    """A log that was verified: what to pin of it, and the devices that it ends with."""

    principal: bytes
    generation: int
    master: bytes
    heads: tuple[bytes, ...]
    """The hash of each entry: a head that somebody else saw is in here, or is of a fork."""
    listed: tuple[ListedDevice, ...]
    """In the order in which their keys came into the log; a device with new keys is listed again."""
    previous: bytes = b""
    """The head of the log of the identity before; b"" for none, or where it is not known."""

    @property
    def length(self) -> int:
        """How many entries the log has."""
        return len(self.heads)

    @property
    def head(self) -> bytes:
        """The hash of the last entry: of everything in the log."""
        return self.heads[-1]

    @property
    def devices(self) -> dict[bytes, DevicePublic]:
        """The devices that the log ends with."""
        return {listed.device: listed.keys for listed in self.listed if listed.until is None}

    def keys_at(self, device: bytes, length: int) -> DevicePublic | None:
        """The keys of a device when the log had so many entries: what it wrote then is believed, removed or not."""
        for listed in self.listed:
            if listed.device == device and listed.since < length and (listed.until is None or listed.until >= length):
                return listed.keys
        return None


class _LogEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    type: Literal["tchat.device_log"]
    user_id: str
    generation: Annotated[int, msgspec.Meta(ge=1, le=N_MAX)]
    index: Annotated[int, msgspec.Meta(ge=0, le=N_MAX)]
    previous: str
    action: LogAction
    master: str
    at_ms: Annotated[int, msgspec.Meta(ge=0, le=N_MAX)]
    signatures: dict[str, dict[str, str]]
    device_id: str | None = None
    ed25519: str | None = None
    curve25519: str | None = None


_FIELDS_OF = {
    LogAction.STARTED: frozenset[str](),
    LogAction.ADDED: frozenset({"device_id", "ed25519", "curve25519"}),
    LogAction.REMOVED: frozenset({"device_id"}),
    LogAction.KEYS_CHANGED: frozenset({"device_id", "ed25519", "curve25519"}),
}
_DEVICE_FIELDS = _FIELDS_OF[LogAction.ADDED]


def fold(principal: bytes, entries: Sequence[bytes]) -> LogState:
    """The state of a whole log of this person; `LogError` if anything in it is wrong."""
    if not entries:
        raise LogError(LogReason.NOT_STARTED)
    entry, signed = _read(entries[0])
    if entry.action is not LogAction.STARTED:
        raise LogError(LogReason.NOT_STARTED)
    if _previous_of(entry) != b"" if entry.generation == 1 else len(_previous_of(entry)) != _HASH_BYTES:
        raise LogError(LogReason.WRONG_PREVIOUS)
    master = _key(read_ed25519, entry.master)
    before = LogState(principal, entry.generation, master, (), (), _previous_of(entry))
    _check_chain(entry, before, 0)
    _check_signature(entry, signed, master)
    return extend(msgspec.structs.replace(before, heads=(hash_of_entry(entries[0]),)), entries[1:])


def extend(state: LogState, entries: Sequence[bytes]) -> LogState:
    """The state with these entries after it; `LogError` if they do not all follow, and then nothing is believed."""
    heads, listed = list(state.heads), list(state.listed)
    for data in entries:
        entry, signed = _read(data)
        _check_chain(entry, state, len(heads))
        if _previous_of(entry) != heads[-1]:
            raise LogError(LogReason.WRONG_PREVIOUS)
        _check_signature(entry, signed, state.master)
        _apply(entry, state.master, listed)
        heads.append(hash_of_entry(data))
    return msgspec.structs.replace(state, heads=tuple(heads), listed=tuple(listed))


def hash_of_entry(data: bytes) -> bytes:
    """What the next entry names as `previous`."""
    return hashlib.sha256(frame(_DOMAIN, data)).digest()


def start_log(principal: bytes, generation: int, previous: bytes, *, at_ms: int, master: SigningKey) -> bytes:
    """The first entry of an identity; `previous` is the head of the log of the generation before, b"" for the first."""
    place = {"generation": generation, "index": 0, "previous": to_base64(previous), "at_ms": at_ms}
    return _signed(principal, master, {"action": str(LogAction.STARTED), **place})


def next_entry(
    state: LogState,
    action: LogAction,
    device: bytes,
    keys: DevicePublic | None = None,
    *,
    at_ms: int,
    master: SigningKey,
) -> bytes:
    """The entry that does this to the log; whether it may is seen when it is appended (`extend`)."""
    place = {"generation": state.generation, "index": state.length, "previous": to_base64(state.head), "at_ms": at_ms}
    about = {"action": str(action), "device_id": device_id_of(device)}
    if keys is not None:
        about |= {"ed25519": to_base64(keys.ed25519), "curve25519": to_base64(keys.curve25519)}
    return _signed(state.principal, master, {**place, **about})


def _signed(principal: bytes, master: SigningKey, fields: dict[str, object]) -> bytes:
    public = to_base64(bytes(master.verify_key))
    entry = {"type": _TYPE, "user_id": user_id_of(principal), "master": public, **fields}
    signature = to_base64(master.sign(encode_canonical(entry)).signature)
    return encode_canonical({**entry, "signatures": {user_id_of(principal): {f"ed25519:{public}": signature}}})


def _read(data: bytes) -> tuple[_LogEntry, bytes]:
    """The entry, and what of it is signed."""
    if len(data) > DEVICE_LOG_ENTRY_BYTES_MAX:
        raise LogError(LogReason.TOO_LARGE)
    try:
        value = decode_canonical(data)
        entry = msgspec.convert(value, _LogEntry)
    except (CanonicalError, msgspec.ValidationError) as error:
        raise LogError(LogReason.MALFORMED) from error
    if value.keys() & _DEVICE_FIELDS != _FIELDS_OF[entry.action]:
        raise LogError(LogReason.MALFORMED)
    return entry, signed_part(value)


def _previous_of(entry: _LogEntry) -> bytes:
    try:
        return from_base64(entry.previous)
    except CanonicalError as error:
        raise LogError(LogReason.WRONG_PREVIOUS) from error


def _key(read: Callable[[object], bytes], text: object) -> bytes:
    try:
        return read(text)
    except BadKeyError as error:
        raise LogError(LogReason.BAD_KEY) from error


def _check_chain(entry: _LogEntry, state: LogState, index: int) -> None:
    """Whether the entry is of this log and has this place in it."""
    if entry.user_id != user_id_of(state.principal):
        raise LogError(LogReason.WRONG_OWNER)
    if entry.generation != state.generation:
        raise LogError(LogReason.WRONG_GENERATION)
    if entry.index != index:
        raise LogError(LogReason.WRONG_INDEX)
    if index == DEVICE_LOG_ENTRIES_MAX:
        raise LogError(LogReason.TOO_MANY_ENTRIES)
    if entry.master != to_base64(state.master):
        raise LogError(LogReason.WRONG_MASTER)


def _check_signature(entry: _LogEntry, signed: bytes, master: bytes) -> None:
    """Exactly one signature, by the master key: nothing in an entry is left unchecked."""
    by = f"ed25519:{entry.master}"
    signatures = entry.signatures.get(entry.user_id, {})
    if entry.signatures.keys() != {entry.user_id} or signatures.keys() != {by}:
        raise LogError(LogReason.WRONG_SIGNATURE)
    if not is_signature_text(signatures[by], signed, master):
        raise LogError(LogReason.WRONG_SIGNATURE)


def _apply(entry: _LogEntry, master: bytes, listed: list[ListedDevice]) -> None:
    """Do to the devices what the entry says, if it may."""
    if entry.action is LogAction.STARTED:
        raise LogError(LogReason.STARTED_TWICE)
    try:
        device = device_of(entry.device_id)
    except CanonicalError as error:
        raise LogError(LogReason.MALFORMED) from error
    live = {one.device: place for place, one in enumerate(listed) if one.until is None}
    if (device in live) != (entry.action is not LogAction.ADDED):
        raise LogError(LogReason.KNOWN_DEVICE if device in live else LogReason.UNKNOWN_DEVICE)
    if entry.action is LogAction.ADDED and len(live) == DEVICES_PER_PERSON_MAX:
        raise LogError(LogReason.TOO_MANY_DEVICES)
    keys = None if entry.action is LogAction.REMOVED else _new_keys(entry, master, listed)
    if device in live:
        listed[live[device]] = msgspec.structs.replace(listed[live[device]], until=entry.index)
    if keys is not None:
        listed.append(ListedDevice(device, keys, entry.index, at_ms=entry.at_ms))


def _new_keys(entry: _LogEntry, master: bytes, listed: list[ListedDevice]) -> DevicePublic:
    """The keys that the entry brings, which nobody has had before."""
    if entry.index >= DEVICE_LOG_ENTRIES_MAX - DEVICES_PER_PERSON_MAX:
        raise LogError(LogReason.TOO_MANY_ENTRIES)
    keys = DevicePublic(_key(read_ed25519, entry.ed25519), _key(read_curve25519, entry.curve25519))
    used = {master, *(key for one in listed for key in (one.keys.ed25519, one.keys.curve25519))}
    if keys.ed25519 == keys.curve25519 or used & {keys.ed25519, keys.curve25519}:
        raise LogError(LogReason.REUSED_KEY)
    return keys
