"""Comparing seven emoji or three numbers (Matrix specification, "Short Authentication String"): `m.sas.v1`.

Both devices agree on a secret and show a few symbols of it. The acceptor commits to its key before it sees the other
one, so whoever sits between has one guess. People compare the symbols by another way than this server; then each device
proves under the secret which device key and which master key it has. Only keys that were known when the exchange began
are compared: nothing that arrives during it replaces them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import Enum
from typing import Literal

import msgspec
import vodozemac

from protocol.canonical import device_id_of, encode_canonical, to_base64, user_id_of
from tchat.crypto.compared import (
    CancelCode,
    Compared,
    Content,
    MessageType,
    Party,
    VerificationCancelledError,
    read_content,
)

METHOD = "m.sas.v1"
_KEY_AGREEMENT, _HASH, _MAC = "curve25519-hkdf-sha256", "sha256", "hkdf-hmac-sha256.v2"
_SHOWN_AS = ("decimal", "emoji")
_KEY_IDS = "KEY_IDS"
_KEYS_MAX = 16

_EMOJI = (
    "🐶 Dog,🐱 Cat,🦁 Lion,🐎 Horse,🦄 Unicorn,🐷 Pig,🐘 Elephant,🐰 Rabbit,🐼 Panda,🐓 Rooster,🐧 Penguin,🐢 Turtle,"
    "🐟 Fish,🐙 Octopus,🦋 Butterfly,🌷 Flower,🌳 Tree,🌵 Cactus,🍄 Mushroom,🌏 Globe,🌙 Moon,☁️ Cloud,🔥 Fire,"
    "🍌 Banana,🍎 Apple,🍓 Strawberry,🌽 Corn,🍕 Pizza,🎂 Cake,❤️ Heart,😀 Smiley,🤖 Robot,🎩 Hat,👓 Glasses,"
    "🔧 Spanner,🎅 Santa,👍 Thumbs Up,☂️ Umbrella,⌛ Hourglass,⏰ Clock,🎁 Gift,💡 Light Bulb,📕 Book,✏️ Pencil,"
    "📎 Paperclip,✂️ Scissors,🔒 Lock,🔑 Key,🔨 Hammer,☎️ Telephone,🏁 Flag,🚂 Train,🚲 Bicycle,✈️ Aeroplane,"
    "🚀 Rocket,🏆 Trophy,⚽ Ball,🎸 Guitar,🎺 Trumpet,🔔 Bell,⚓ Anchor,🎧 Headphones,📁 Folder,📌 Pin"
)
EMOJI = tuple(_EMOJI.split(","))
"""Matrix' 64 symbols with their names, by number."""


@dataclass(frozen=True, slots=True)
class ShownSas:
    """What people compare: either the seven emoji with their names, or the three numbers."""

    emoji: tuple[str, ...]
    numbers: tuple[int, int, int]


class _Accept(msgspec.Struct):
    commitment: str
    hash: Literal["sha256"]
    key_agreement_protocol: Literal["curve25519-hkdf-sha256"]
    message_authentication_code: Literal["hkdf-hmac-sha256.v2"]
    short_authentication_string: list[str]


class _Start(msgspec.Struct):
    hashes: list[str]
    key_agreement_protocols: list[str]
    message_authentication_codes: list[str]
    short_authentication_string: list[str]


class _Key(msgspec.Struct):
    key: str


class _Mac(msgspec.Struct):
    keys: str
    mac: dict[str, str]


class _Awaited(Enum):
    ACCEPT = MessageType.ACCEPT
    KEY = MessageType.KEY
    MAC = MessageType.MAC
    NOTHING = None


class SasExchange:
    """One exchange, of one transaction. Its calls return what to send, and raise what to cancel with."""

    def __init__(self, me: Party, they: Party, transaction: str, start: Content, *, starter: bool) -> None:
        self._me, self._they, self._transaction, self._start = me, they, transaction, start
        self._starter = starter
        self._sas = vodozemac.Sas()
        self._own_key = self._sas.public_key.to_base64()
        self._commitment = ""
        self._established: vodozemac.EstablishedSas | None = None
        self._confirmed = False
        self._awaited = _Awaited.ACCEPT if starter else _Awaited.KEY
        self.shown: ShownSas | None = None

    @property
    def awaits_accept(self) -> bool:
        """Whether the other device has not answered our start yet."""
        return self._awaited is _Awaited.ACCEPT

    @property
    def compared(self) -> Compared | None:
        """The keys that are verified, once a person has confirmed and the other device has proven them."""
        if self._confirmed and self._awaited is _Awaited.NOTHING:
            return Compared(self._they.master, self._they.ed25519)
        return None

    def accept(self) -> tuple[MessageType, Content]:
        """The answer to the other device's start: commits to our key before theirs is known."""
        try:
            offered = msgspec.convert(self._start, _Start)
        except msgspec.ValidationError as error:
            raise VerificationCancelledError(CancelCode.INVALID_MESSAGE) from error
        if (
            _KEY_AGREEMENT not in offered.key_agreement_protocols
            or _HASH not in offered.hashes
            or _MAC not in offered.message_authentication_codes
            or not set(_SHOWN_AS) & set(offered.short_authentication_string)
        ):
            raise VerificationCancelledError(CancelCode.UNKNOWN_METHOD)
        return MessageType.ACCEPT, {
            "commitment": _commitment(self._own_key, self._start),
            "hash": _HASH,
            "key_agreement_protocol": _KEY_AGREEMENT,
            "message_authentication_code": _MAC,
            "short_authentication_string": [way for way in _SHOWN_AS if way in offered.short_authentication_string],
        }

    def receive(self, kind: MessageType, content: Content) -> list[tuple[MessageType, Content]]:
        """Take the next message of the other device."""
        if kind is not self._awaited.value:
            raise VerificationCancelledError(CancelCode.UNEXPECTED_MESSAGE)
        match kind:
            case MessageType.ACCEPT:
                return self._accepted(read_content(content, _Accept))
            case MessageType.KEY:
                return self._key_received(read_content(content, _Key).key)
            case _:
                self._check_macs(read_content(content, _Mac))
                self._awaited = _Awaited.NOTHING
                return []

    def confirm(self) -> list[tuple[MessageType, Content]]:
        """A person says that both devices show the same."""
        assert self.shown is not None, "people compare what is shown"
        self._confirmed = True
        macs = {name: self._own_mac(key, name) for name, key in _keys_of(self._me)}
        return [(MessageType.MAC, {"keys": self._own_mac(",".join(sorted(macs)), _KEY_IDS), "mac": macs})]

    def _accepted(self, accept: _Accept) -> list[tuple[MessageType, Content]]:
        self._commitment = accept.commitment
        self._awaited = _Awaited.KEY
        return [(MessageType.KEY, {"key": self._own_key})]

    def _key_received(self, key: str) -> list[tuple[MessageType, Content]]:
        if self._starter and _commitment(key, self._start) != self._commitment:
            raise VerificationCancelledError(CancelCode.MISMATCHED_COMMITMENT)
        try:
            self._established = self._sas.diffie_hellman(vodozemac.Curve25519PublicKey.from_base64(key))
        except ValueError as error:
            raise VerificationCancelledError(CancelCode.INVALID_MESSAGE) from error
        own, other = (self._me, self._own_key), (self._they, key)
        parts = [
            "|".join((user_id_of(party.principal), device_id_of(party.device), public))
            for party, public in ((own, other) if self._starter else (other, own))
        ]
        shown = self._established.bytes("|".join(("MATRIX_KEY_VERIFICATION_SAS", *parts, self._transaction)))
        self.shown = ShownSas(tuple(EMOJI[number] for number in shown.emoji_indices), shown.decimals)
        self._awaited = _Awaited.MAC
        return [] if self._starter else [(MessageType.KEY, {"key": self._own_key})]

    def _check_macs(self, proof: _Mac) -> None:
        """The other device has proven exactly the keys that we knew, and named no key twice."""
        if len(proof.mac) > _KEYS_MAX:
            raise VerificationCancelledError(CancelCode.INVALID_MESSAGE)
        self._check_mac(",".join(sorted(proof.mac)), _KEY_IDS, proof.keys)
        for name, key in _keys_of(self._they):
            if name not in proof.mac:
                raise VerificationCancelledError(CancelCode.KEY_MISMATCH)
            self._check_mac(key, name, proof.mac[name])

    def _own_mac(self, value: str, name: str) -> str:
        assert self._established is not None, "MACs come after the keys"
        return self._established.calculate_mac(value, self._info(self._me, self._they, name))

    def _check_mac(self, value: str, name: str, mac: str) -> None:
        assert self._established is not None, "MACs come after the keys"
        try:
            self._established.verify_mac(value, self._info(self._they, self._me, name), mac)
        except ValueError as error:
            raise VerificationCancelledError(CancelCode.KEY_MISMATCH) from error

    def _info(self, sender: Party, receiver: Party, name: str) -> str:
        sides = (user_id_of(party.principal) + device_id_of(party.device) for party in (sender, receiver))
        return "".join(("MATRIX_KEY_VERIFICATION_MAC", *sides, self._transaction, name))


def sas_start() -> Content:
    """What a start offers: the one way that we know."""
    return {
        "method": METHOD,
        "hashes": [_HASH],
        "key_agreement_protocols": [_KEY_AGREEMENT],
        "message_authentication_codes": [_MAC],
        "short_authentication_string": list(_SHOWN_AS),
    }


def _commitment(key: str, start: Content) -> str:
    return to_base64(hashlib.sha256(key.encode() + encode_canonical(start)).digest())


def _keys_of(party: Party) -> list[tuple[str, str]]:
    """The names and values of the keys that this side proves."""
    keys = [(f"ed25519:{device_id_of(party.device)}", to_base64(party.ed25519))]
    if party.master is not None:
        keys.append((f"ed25519:{to_base64(party.master)}", to_base64(party.master)))
    return keys
