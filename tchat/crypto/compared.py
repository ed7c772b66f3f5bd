"""What all ways of verification share: who takes part, which keys they compare, the messages, and why they stop."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias, TypeVar

import msgspec

Content: TypeAlias = dict[str, object]
"""The content of a message, without the transaction that it is of: canonical JSON on its way."""
_Read = TypeVar("_Read", bound=msgspec.Struct)


class MessageType(StrEnum):
    """The messages of a verification (Matrix specification, "Key verification framework")."""

    REQUEST = "m.key.verification.request"
    READY = "m.key.verification.ready"
    START = "m.key.verification.start"
    ACCEPT = "m.key.verification.accept"
    KEY = "m.key.verification.key"
    MAC = "m.key.verification.mac"
    DONE = "m.key.verification.done"
    CANCEL = "m.key.verification.cancel"


class CancelCode(StrEnum):
    """Why a verification stops without a result."""

    USER = "m.user"
    TIMEOUT = "m.timeout"
    UNKNOWN_METHOD = "m.unknown_method"
    UNEXPECTED_MESSAGE = "m.unexpected_message"
    INVALID_MESSAGE = "m.invalid_message"
    KEY_MISMATCH = "m.key_mismatch"
    MISMATCHED_COMMITMENT = "m.mismatched_commitment"
    MISMATCHED_SAS = "m.mismatched_sas"
    ACCEPTED = "m.accepted"

    @property
    def sentence(self) -> str:
        """What happened and what to do, for people."""
        return _SENTENCES[self]


_SENTENCES = {
    CancelCode.USER: "The verification was cancelled.",
    CancelCode.TIMEOUT: "The verification took too long. Try again.",
    CancelCode.UNKNOWN_METHOD: "The two devices know no common way to verify.",
    CancelCode.UNEXPECTED_MESSAGE: "The other device answered out of turn. Try again.",
    CancelCode.INVALID_MESSAGE: "The other device sent what is no answer. Try again.",
    CancelCode.KEY_MISMATCH: "The keys are not the ones that this device knows: somebody may sit between you.",
    CancelCode.MISMATCHED_COMMITMENT: "The other device changed its key meanwhile: somebody may sit between you.",
    CancelCode.MISMATCHED_SAS: "The symbols differ: somebody may sit between you.",
    CancelCode.ACCEPTED: "Another device has taken the verification.",
}


class VerificationCancelledError(Exception):
    """The verification stops; both sides learn `code`."""

    def __init__(self, code: CancelCode) -> None:
        super().__init__(code.sentence)
        self.code = code


@dataclass(frozen=True, slots=True)
class Party:
    """One side, and the keys that it stands for, as they were known when the verification began.

    `master` is None on a side that does not know its own person's master key for sure: a fresh device.
    """

    principal: bytes
    device: bytes
    ed25519: bytes
    master: bytes | None


@dataclass(frozen=True, slots=True)
class Compared:
    """The keys of the other side that are verified now."""

    master: bytes | None
    device: bytes | None


def read_content(content: Content, kind: type[_Read]) -> _Read:
    """The fields of a message; others are left alone, as Matrix asks."""
    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        raise VerificationCancelledError(CancelCode.INVALID_MESSAGE) from error
