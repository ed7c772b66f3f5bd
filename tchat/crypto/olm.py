"""Channels between two devices: Olm sessions, and Matrix' messages to one device in them.

Invariants:

- A message is believed only if sender, recipient and the keys of both, as its plaintext names them, are those of the
  devices that it stands between, the sender's as the device log has them.
- A session that the other device opens is accepted once. Otherwise a server that repeats its first message could open
  it again with the fallback key, and show its messages again.
- Of several sessions with a device, this one writes in the session that was made last, or in which the last message
  came. So two devices that open channels to each other at once end in a session that both have.
- What cannot be opened changes nothing but one note: the channel is broken. A broken channel is replaced, at most once
  in REPLACED_MS_MIN, since the server can break it at will and each replacement costs a one-time key.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass, field
from typing import Literal

import msgspec
import vodozemac

from protocol.canonical import (
    CanonicalError,
    decode_canonical,
    encode_canonical,
    from_base64,
    to_base64,
    user_id_of,
)
from protocol.cross_signing import ALGORITHMS, KeysRefusedError, read_device_keys, read_one_time_key
from protocol.public_keys import DevicePublic
from tchat.crypto.errors import NoChannelError, OpenError, Reason
from tchat.crypto.own_keys import OwnKeys
from tchat.crypto.state import Step, Table

OLM = ALGORITHMS[0]
DUMMY = "m.dummy"
"""The type of a message that only brings a new session."""
TO_DEVICE_BYTES_MAX = 4096
SESSIONS_MAX = 5
"""Olm sessions with one device; the one that was used least lately is forgotten."""
REMEMBERED_MAX = 64
"""So many messages of a channel, and sessions that were opened in it, are recognised when they come again."""
REPLACED_MS_MIN = 3_600_000


@dataclass(frozen=True, slots=True)
class KnownDevice:
    """Another device, with its keys as the device log of its person has them."""

    principal: bytes
    device: bytes
    public: DevicePublic

    @property
    def row(self) -> bytes:
        """The key of what is kept of it: with other keys it is another device, and keys do not name their owner."""
        return self.principal + self.device + self.public.curve25519


@dataclass(frozen=True, slots=True)
class ToDevice:
    """What a device wrote to this one.

    `opened`: it came by a session that was new here. `replaces`: there was one before, which the device may have lost.
    """

    sender: KnownDevice
    type: str
    content: dict[str, object] = field(repr=False)
    opened: bool
    replaces: bool = False


class _Channel(msgspec.Struct, array_like=True):
    pickles: list[str] = []
    """Of the sessions; the one to write with comes first."""
    recent: list[bytes] = []
    broken: bool = False
    replaced_ms: int = 0
    opened: list[str] = []
    """Ids of the sessions that the other device has opened."""


class _Body(msgspec.Struct, frozen=True):
    type: Literal[0, 1]
    body: str


class _Encrypted(msgspec.Struct, frozen=True):
    algorithm: Literal["m.olm.v1.curve25519-aes-sha2"]
    sender_key: str
    ciphertext: dict[str, _Body]


class _Ed25519(msgspec.Struct, frozen=True):
    ed25519: str


class _OlmPlaintext(msgspec.Struct, frozen=True):
    type: str
    content: dict[str, object]
    sender: str
    recipient: str
    keys: _Ed25519
    recipient_keys: _Ed25519
    sender_device_keys: dict[str, object]


_encrypted = msgspec.json.Decoder(_Encrypted)
_plaintext = msgspec.json.Decoder(_OlmPlaintext)


def has_channel(step: Step, device: KnownDevice) -> bool:
    """Whether something can be written to this device now."""
    return bool(_read(step, device).pickles)


def is_broken(step: Step, device: KnownDevice, now_ms: int) -> bool:
    """Whether the channel should be replaced now: claim a one-time key, open it anew, and send a `DUMMY`."""
    channel = _read(step, device)
    return channel.broken and not 0 <= now_ms - channel.replaced_ms < REPLACED_MS_MIN


def open_channel(step: Step, own: OwnKeys, device: KnownDevice, one_time_key: bytes, now_ms: int) -> bytes | None:
    """Open a channel with a key that was claimed; `KeysRefusedError` unless the device has signed it.

    When it replaces a broken one, returns a `DUMMY` to send: by it the device learns the new session.
    """
    claimed = read_one_time_key(one_time_key, device.principal, device.device, device.public.ed25519)
    session = own.account.create_outbound_session(_key(device.public.curve25519), _key(claimed.key))
    channel = _read(step, device)
    replaces = channel.broken
    if replaces:
        channel.broken, channel.replaced_ms = False, now_ms
    _use_first(step, channel, session)
    _write(step, device, channel)
    return encrypt(step, own, device, DUMMY, {}) if replaces else None


def encrypt(step: Step, own: OwnKeys, device: KnownDevice, kind: str, content: dict[str, object]) -> bytes:
    """Matrix' `m.room.encrypted` content for one device; `NoChannelError` without a session."""
    channel = _read(step, device)
    if not channel.pickles:
        raise NoChannelError
    session = vodozemac.Session.from_pickle(channel.pickles[0], step.state.pickle_key)
    plaintext = {
        "type": kind,
        "content": content,
        "sender": user_id_of(own.principal),
        "recipient": user_id_of(device.principal),
        "keys": {"ed25519": to_base64(own.public.ed25519)},
        "recipient_keys": {"ed25519": to_base64(device.public.ed25519)},
        "sender_device_keys": decode_canonical(own.device_keys),
    }
    message_type, ciphertext = session.encrypt(encode_canonical(plaintext)).to_parts()
    channel.pickles[0] = session.pickle(step.state.pickle_key)
    _write(step, device, channel)
    body = {"type": message_type, "body": to_base64(ciphertext)}
    return encode_canonical(
        {
            "algorithm": OLM,
            "sender_key": to_base64(own.public.curve25519),
            "ciphertext": {to_base64(device.public.curve25519): body},
        }
    )


def decrypt(step: Step, own: OwnKeys, sender: KnownDevice, data: bytes) -> ToDevice:
    """What `sender` wrote to this device; `OpenError` if it is not from there, not for us, or cannot be opened."""
    message = _parse(own, sender, data)
    channel = _read(step, sender)
    digest = hashlib.sha256(data).digest()[:16]
    if digest in channel.recent:
        raise OpenError(Reason.REPEATED)
    had_one = bool(channel.pickles)
    session, plaintext = _try_sessions(step, channel, message)
    opened = session is None
    if session is None:
        session, plaintext = _new_session(step, own, sender, channel, message)
    found = _compare(own, sender, plaintext)
    channel.recent = [*channel.recent[1 - REMEMBERED_MAX :], digest]
    if opened:
        channel.opened = [*channel.opened[1 - REMEMBERED_MAX :], session.session_id]
    channel.broken = False
    _use_first(step, channel, session)
    _write(step, sender, channel)
    if opened:
        own.save()
    return ToDevice(sender, found.type, found.content, opened, opened and had_one)


def _parse(own: OwnKeys, sender: KnownDevice, data: bytes) -> vodozemac.AnyOlmMessage:
    if len(data) > TO_DEVICE_BYTES_MAX:
        raise OpenError(Reason.TOO_LARGE)
    try:
        encrypted = _encrypted.decode(data)
        if encrypted.sender_key != to_base64(sender.public.curve25519):
            raise OpenError(Reason.WRONG_SENDER)
        body = encrypted.ciphertext.get(to_base64(own.public.curve25519))
        if body is None:
            raise OpenError(Reason.WRONG_RECIPIENT)
        return vodozemac.AnyOlmMessage.from_parts(body.type, from_base64(body.body))
    except (ValueError, RecursionError) as error:  # of msgspec, of base64, of vodozemac
        raise OpenError(Reason.MALFORMED) from error


def _try_sessions(
    step: Step, channel: _Channel, message: vodozemac.AnyOlmMessage
) -> tuple[vodozemac.Session | None, bytes]:
    """The session that opens the message, taken out of the channel, and its plaintext."""
    for position, pickle in enumerate(channel.pickles):
        session = vodozemac.Session.from_pickle(pickle, step.state.pickle_key)
        try:
            plaintext = session.decrypt(message)
        except ValueError:
            continue
        del channel.pickles[position]
        return session, plaintext
    return None, b""


def _new_session(
    step: Step, own: OwnKeys, sender: KnownDevice, channel: _Channel, message: vodozemac.AnyOlmMessage
) -> tuple[vodozemac.Session, bytes]:
    """A session that the sender opened with a key of ours; without one the channel is noted as broken."""
    pre_key = message.to_pre_key()
    if pre_key is not None and pre_key.session_id() not in channel.opened:
        with contextlib.suppress(ValueError):
            return own.account.create_inbound_session(_key(sender.public.curve25519), pre_key)
    channel.broken = True
    _write(step, sender, channel)
    raise OpenError(Reason.UNDECRYPTABLE)


def _compare(own: OwnKeys, sender: KnownDevice, data: bytes) -> _OlmPlaintext:
    """The plaintext, if it says that it is from this sender and for us."""
    try:
        found = _plaintext.decode(data)
        encode_canonical(found.content)
        public = read_device_keys(encode_canonical(found.sender_device_keys), sender.principal, sender.device)
    except KeysRefusedError as error:
        raise OpenError(Reason.WRONG_SENDER) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, CanonicalError) as error:
        raise OpenError(Reason.WRONG_FIELDS) from error
    if public != sender.public or found.sender != user_id_of(sender.principal):
        raise OpenError(Reason.WRONG_SENDER)
    if found.keys.ed25519 != to_base64(sender.public.ed25519):
        raise OpenError(Reason.WRONG_SENDER)
    recipient = (found.recipient, found.recipient_keys.ed25519)
    if recipient != (user_id_of(own.principal), to_base64(own.public.ed25519)):
        raise OpenError(Reason.WRONG_RECIPIENT)
    return found


def _use_first(step: Step, channel: _Channel, session: vodozemac.Session) -> None:
    channel.pickles = [session.pickle(step.state.pickle_key), *channel.pickles][:SESSIONS_MAX]


def _read(step: Step, device: KnownDevice) -> _Channel:
    data = step.read(Table.CHANNELS, device.row)
    return _Channel() if data is None else msgspec.msgpack.decode(data, type=_Channel)


def _write(step: Step, device: KnownDevice, channel: _Channel) -> None:
    step.write(Table.CHANNELS, device.row, msgspec.msgpack.encode(channel))


def _key(data: bytes) -> vodozemac.Curve25519PublicKey:
    return vodozemac.Curve25519PublicKey.from_bytes(data)
