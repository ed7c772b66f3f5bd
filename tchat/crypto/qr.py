"""Scanning a code (Matrix specification, "QR codes"): one device shows what it knows, the other compares and answers.

The code has the master key or device key of both sides, as the device that shows it knows them, and a secret. A device
that scans it has compared all of that by the camera, not by the server; it answers with the secret, and the person at
the device that showed the code confirms that the other one accepted it.
"""

from __future__ import annotations

import hmac
import os
from dataclasses import dataclass, field
from enum import IntEnum

import msgspec

from protocol.canonical import CanonicalError, from_base64, to_base64
from protocol.public_keys import PUBLIC_KEY_BYTES
from tchat.crypto.compared import (
    CancelCode,
    Compared,
    Content,
    Party,
    VerificationCancelledError,
    read_content,
)

METHOD = "m.reciprocate.v1"
SHOW, SCAN = "m.qr_code.show.v1", "m.qr_code.scan.v1"
_HEADER = b"MATRIX\x02"
_SECRET_BYTES = 16
_SECRET_BYTES_MIN = 8
_SECRET_BYTES_MAX = 64


class QrMode(IntEnum):
    """Whose devices compare, and which of them knows the master key for sure."""

    OTHER_PERSON = 0
    OWN_DEVICE_TRUSTS_MASTER = 1
    OWN_DEVICE_IS_NEW = 2


class BadCodeError(ValueError):
    """This is not a code of Matrix' verification."""


@dataclass(frozen=True, slots=True)
class QrCode:
    """What a code says: two keys as the device that shows it knows them, its own side first."""

    mode: QrMode
    first: bytes
    second: bytes
    transaction: str
    secret: bytes = field(repr=False)

    def encode(self) -> bytes:
        """The bytes of the code."""
        transaction = self.transaction.encode()
        return b"".join(
            (
                _HEADER,
                bytes([self.mode]),
                len(transaction).to_bytes(2, "big"),
                transaction,
                self.first,
                self.second,
                self.secret,
            )
        )

    @classmethod
    def decode(cls, data: bytes) -> QrCode:
        """What the bytes of a code say; `BadCodeError` if they are none."""
        start = len(_HEADER) + 3
        end = start + int.from_bytes(data[start - 2 : start], "big")
        secret = data[end + 2 * PUBLIC_KEY_BYTES :]
        if not data.startswith(_HEADER) or not _SECRET_BYTES_MIN <= len(secret) <= _SECRET_BYTES_MAX:
            raise BadCodeError("not a code of a verification")
        try:
            mode, transaction = QrMode(data[start - 3]), data[start:end].decode()
        except ValueError as error:
            raise BadCodeError("a code of an unknown mode, or without a transaction") from error
        first, second = data[end : end + PUBLIC_KEY_BYTES], data[end + PUBLIC_KEY_BYTES :][:PUBLIC_KEY_BYTES]
        return cls(mode, first, second, transaction, secret)


class _Reciprocate(msgspec.Struct):
    secret: str


def code_to_show(me: Party, they: Party, transaction: str) -> QrCode:
    """The code that this side shows."""
    return QrCode(*_keys_shown_by(me, they), transaction, os.urandom(_SECRET_BYTES))


def scan(me: Party, they: Party, transaction: str, code: QrCode) -> tuple[Compared, Content]:
    """What is verified by this code of the other side, and the start that tells them.

    Raises `VerificationCancelledError` if the code is of another verification or has other keys than this device knows.
    """
    mode, first, second = _keys_shown_by(they, me)
    if (code.transaction, code.mode) != (transaction, mode):
        raise VerificationCancelledError(CancelCode.INVALID_MESSAGE)
    if not (hmac.compare_digest(code.first, first) and hmac.compare_digest(code.second, second)):
        raise VerificationCancelledError(CancelCode.KEY_MISMATCH)
    verified = Compared(None, first) if mode is QrMode.OWN_DEVICE_IS_NEW else Compared(first, None)
    return verified, {"method": METHOD, "secret": to_base64(code.secret)}


def scanned(they: Party, code: QrCode, start: Content) -> Compared:
    """What is verified once the person at the device that showed `code` confirms that the other one has accepted it.

    Raises `VerificationCancelledError` if the other device did not see the code.
    """
    try:
        secret = from_base64(read_content(start, _Reciprocate).secret)
    except CanonicalError as error:
        raise VerificationCancelledError(CancelCode.INVALID_MESSAGE) from error
    if not hmac.compare_digest(secret, code.secret):
        raise VerificationCancelledError(CancelCode.KEY_MISMATCH)
    if code.mode is QrMode.OWN_DEVICE_TRUSTS_MASTER:
        return Compared(None, they.ed25519)
    return Compared(they.master, None)


def _keys_shown_by(shows: Party, scans: Party) -> tuple[QrMode, bytes, bytes]:
    """The mode of the code, the key that the side that shows it stands for, and the key that it compares."""
    if shows.principal != scans.principal:
        assert shows.master is not None, "two people compare their master keys"
        assert scans.master is not None, "two people compare their master keys"
        return QrMode.OTHER_PERSON, shows.master, scans.master
    if shows.master is not None:
        return QrMode.OWN_DEVICE_TRUSTS_MASTER, shows.master, scans.ed25519
    assert scans.master is not None, "one of the own devices knows the master key"
    return QrMode.OWN_DEVICE_IS_NEW, shows.ed25519, scans.master
