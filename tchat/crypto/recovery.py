"""The recovery key: 32 bytes that a person writes down, and what is sealed under them on the server.

- Three things are sealed: the private keys of the identity, the keys of Megolm sessions, and which identities of
  others the person trusts. All with XChaCha20-Poly1305, each under a key of its own that is made of the recovery key.
- The sealed bytes are bound to the principal, the generation of the identity, and the place in the backup. Only who has
  the recovery key can seal: nothing that a server, or anybody else, puts into a backup opens.
- The server can keep values back, or give older ones of the same place; it cannot change, move or add one.
- Decisions about people have the highest places in the backup. A place is a keyed hash: it does not tell the server
  whom the decision is about.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from enum import StrEnum

import msgspec
import vodozemac
from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
    crypto_aead_xchacha20poly1305_ietf_NPUBBYTES,
)
from nacl.exceptions import CryptoError

from protocol.canonical import frame, to_base64
from protocol.limits import BACKUP_KEY_BYTES, BACKUP_VALUE_BYTES_MAX
from tchat.crypto.own_identity import SECRET_BYTES, OwnIdentity
from tchat.crypto.trust import Trust

RECOVERY_KEY_BYTES = 32
_NONCE_BYTES = crypto_aead_xchacha20poly1305_ietf_NPUBBYTES
_PREFIX = b"\x8b\x01"
_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_CODE_BYTES = len(_PREFIX) + RECOVERY_KEY_BYTES + 1
_CODE_CHARS = 48
_IDENTITY, _SESSION = b"tchat/recovery/identity/1", b"tchat/recovery/session/1"
_TRUST, _TRUST_PLACE = b"tchat/recovery/trust/1", b"tchat/recovery/trust-place/1"
TRUST_PREFIX = b"\xff" * 8
"""Places of decisions about people begin so. A place of a session begins so with probability 2**-64."""


class RecoveryReason(StrEnum):
    """Why something is not recovered."""

    WRONG_CHARACTER = "wrong_character"
    WRONG_LENGTH = "wrong_length"
    MISTYPED = "mistyped"
    NOT_OURS = "not_ours"
    WRONG_SESSION = "wrong_session"

    @property
    def sentence(self) -> str:
        """What is wrong, for people."""
        return _SENTENCES[self]


_SENTENCES = {
    RecoveryReason.WRONG_CHARACTER: "A recovery key has letters and digits only, without 0, O, I and l.",
    RecoveryReason.WRONG_LENGTH: "This is not a whole recovery key: it has twelve groups of four.",
    RecoveryReason.MISTYPED: "A character of the recovery key is wrong.",
    RecoveryReason.NOT_OURS: "This was not sealed with this recovery key for this person, or was changed since.",
    RecoveryReason.WRONG_SESSION: "The backup holds the keys of another session than it says.",
}


class RecoveryError(ValueError):
    """This is not recovered; `reason` is stable, the text says why."""

    def __init__(self, reason: RecoveryReason) -> None:
        super().__init__(reason.sentence)
        self.reason = reason


class BackedUpSession(msgspec.Struct, frozen=True):
    """A Megolm session as a device could read it: from which message on, and whose it is."""

    session: bytes
    dialog: bytes
    principal: bytes
    device: bytes
    exported: str
    """vodozemac's form of the keys: a secret, which `repr` does not show."""
    first_index: int = 0

    def __repr__(self) -> str:
        return f"BackedUpSession({to_base64(self.session)})"


class _Decision(msgspec.Struct, array_like=True, frozen=True):
    about: bytes
    trust: Trust


def new_recovery_key() -> bytes:
    """RECOVERY_KEY_BYTES that nobody can guess."""
    return os.urandom(RECOVERY_KEY_BYTES)


def write_recovery_key(key: bytes) -> str:
    """The key as people write it down (Matrix specification, "Cryptographic key representation")."""
    code = _PREFIX + key
    number = int.from_bytes(code + bytes([_parity(code)]), "big")
    digits = ""
    while number:
        number, digit = divmod(number, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return " ".join(digits[start : start + 4] for start in range(0, len(digits), 4))


def read_recovery_key(text: str) -> bytes:
    """The key that was written down, spaces anywhere; `RecoveryError` when a character is wrong or missing."""
    digits = "".join(text.split())
    if len(digits) != _CODE_CHARS:
        raise RecoveryError(RecoveryReason.WRONG_LENGTH)
    number = 0
    for digit in digits:
        if digit not in _ALPHABET:
            raise RecoveryError(RecoveryReason.WRONG_CHARACTER)
        number = number * len(_ALPHABET) + _ALPHABET.index(digit)
    code = number.to_bytes(_CODE_BYTES + 1, "big")[1:]
    if number.bit_length() > 8 * _CODE_BYTES or not code.startswith(_PREFIX) or _parity(code) != 0:
        raise RecoveryError(RecoveryReason.MISTYPED)
    return code[len(_PREFIX) : -1]


def seal_identity(key: bytes, identity: OwnIdentity) -> bytes:
    """The private keys of an identity, for the server to keep."""
    return _seal(key, _IDENTITY, _bound_to(identity.principal, identity.generation), identity.secret)


def open_identity(key: bytes, principal: bytes, generation: int, sealed: bytes) -> OwnIdentity:
    """The identity that was sealed for this person as this generation; `RecoveryError` otherwise.

    Whose it is now, the log says: compare it (`OwnIdentity.owns`) before anything is signed.
    """
    secret = _open(key, _IDENTITY, _bound_to(principal, generation), sealed)
    if len(secret) != SECRET_BYTES:
        raise RecoveryError(RecoveryReason.NOT_OURS)
    return OwnIdentity.from_secret(principal, generation, secret)


def seal_session(key: bytes, identity: OwnIdentity, session: BackedUpSession) -> bytes:
    """The keys of a session, for the backup."""
    bound = _bound_to(identity.principal, identity.generation, session_place(session.session, session.device))
    return _seal(key, _SESSION, bound, msgspec.msgpack.encode(session))


def session_place(session: bytes, device: bytes) -> bytes:
    """Where a session of a device is in the backup; it names nothing to the server."""
    return hashlib.sha256(frame(b"tchat/backup/1", session, device)).digest()


def open_session(key: bytes, identity: OwnIdentity, place: bytes, sealed: bytes) -> BackedUpSession:
    """The keys of the session that is at this place; `RecoveryError` if this person did not seal it there."""
    value = _open(key, _SESSION, _bound_to(identity.principal, identity.generation, place), sealed)
    try:
        found = msgspec.msgpack.decode(value, type=BackedUpSession)
        imported = vodozemac.InboundGroupSession.import_session(vodozemac.ExportedSessionKey(found.exported))
    except ValueError as error:
        raise RecoveryError(RecoveryReason.NOT_OURS) from error
    if session_place(found.session, found.device) != place or imported.session_id != to_base64(found.session):
        raise RecoveryError(RecoveryReason.WRONG_SESSION)
    return found


def seal_trust(key: bytes, identity: OwnIdentity, about: bytes, trust: Trust) -> tuple[bytes, bytes]:
    """The decision about somebody, for the backup: its place there, and the sealed bytes."""
    place = _trust_place(key, about)
    bound = _bound_to(identity.principal, identity.generation, place)
    return place, _seal(key, _TRUST, bound, msgspec.msgpack.encode(_Decision(about, trust)))


def open_trust(key: bytes, identity: OwnIdentity, place: bytes, sealed: bytes) -> tuple[bytes, Trust]:
    """Whom a decision is about, and the decision; `RecoveryError` if this person did not seal it for this place."""
    value = _open(key, _TRUST, _bound_to(identity.principal, identity.generation, place), sealed)
    try:
        found = msgspec.msgpack.decode(value, type=_Decision)
    except ValueError as error:
        raise RecoveryError(RecoveryReason.NOT_OURS) from error
    return found.about, found.trust


def _trust_place(key: bytes, about: bytes) -> bytes:
    digest = hmac.digest(_key_for(key, _TRUST_PLACE), about, hashlib.sha256)
    return TRUST_PREFIX + digest[: BACKUP_KEY_BYTES - len(TRUST_PREFIX)]


def _seal(key: bytes, domain: bytes, bound: bytes, value: bytes) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + crypto_aead_xchacha20poly1305_ietf_encrypt(value, bound, nonce, _key_for(key, domain))


def _open(key: bytes, domain: bytes, bound: bytes, sealed: bytes) -> bytes:
    nonce, value = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
    if len(nonce) < _NONCE_BYTES or len(sealed) > BACKUP_VALUE_BYTES_MAX:
        raise RecoveryError(RecoveryReason.NOT_OURS)
    try:
        return crypto_aead_xchacha20poly1305_ietf_decrypt(value, bound, nonce, _key_for(key, domain))
    except CryptoError as error:
        raise RecoveryError(RecoveryReason.NOT_OURS) from error


def _key_for(key: bytes, domain: bytes) -> bytes:
    """A key for one purpose: HMAC-SHA256 under the recovery key."""
    assert len(key) == RECOVERY_KEY_BYTES, "a recovery key has been read before"
    return hmac.digest(key, domain, hashlib.sha256)


def _bound_to(principal: bytes, generation: int, place: bytes = b"") -> bytes:
    return frame(b"tchat/recovery/1", principal, generation.to_bytes(8, "big"), place)


def _parity(code: bytes) -> int:
    parity = 0
    for byte in code:
        parity ^= byte
    return parity
