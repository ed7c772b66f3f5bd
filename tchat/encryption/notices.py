"""What encryption shows to a person beside the events; each notice has a sentence for them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from protocol.bodies import TimelineEvent
from tchat.crypto.compared import CancelCode
from tchat.crypto.errors import Reason, RosterReason
from tchat.crypto.pins import LogVerdict
from tchat.crypto.qr import QrCode
from tchat.crypto.recovery import RecoveryReason
from tchat.crypto.sas import ShownSas
from tchat.crypto.verification import Phase

VIEWS_DIFFER = (
    "A member of this dialog sees other members or devices than you do: the server may show different ones to each of"
    " you. Nothing is sent. Compare who is in the dialog with them, in another way, then say that you agree."
)


class Standing(StrEnum):
    """What this device is to others."""

    UNKNOWN = "unknown"
    UNVERIFIED = "unverified"
    LISTED = "listed"

    @property
    def sentence(self) -> str:
        """What it means and what to do, for people."""
        return _STANDINGS[self]


_STANDINGS = {
    Standing.UNKNOWN: "The server has not said yet which devices you have.",
    Standing.UNVERIFIED: "This device is new: confirm it on another device of yours, or enter the recovery key. If you"
    " have neither, start a new identity; your contacts will see that.",
    Standing.LISTED: "This device is one of yours.",
}


@dataclass(frozen=True, slots=True)
class Unreadable:
    """In place of an event: it is sealed and was not opened, or is not sealed and ought to be; nothing is believed.

    `event` is as the server gave it. After a reason that `may_pass` a `NowReadable` may follow.
    """

    event: TimelineEvent
    reason: Reason

    @property
    def sentence(self) -> str:
        """What happened and what to do, for people."""
        return self.reason.sentence


@dataclass(frozen=True, slots=True)
class NowReadable:
    """An event that was `Unreadable`, opened with keys that came later; its payload is what was written."""

    event: TimelineEvent


@dataclass(frozen=True, slots=True)
class MessagesMissing:
    """Before event `seq` of a dialog, the server leaves out something that the same device has sent there."""

    dialog: bytes
    author: bytes
    device: bytes
    seq: int

    @property
    def sentence(self) -> str:
        """What happened, for people."""
        return "The server does not show a message that was sent before this one."


@dataclass(frozen=True, slots=True)
class StandingChanged:
    """What this device is to others; `Standing.UNVERIFIED` waits for its person."""

    standing: Standing

    @property
    def sentence(self) -> str:
        """What it means and what to do, for people."""
        return self.standing.sentence


@dataclass(frozen=True, slots=True)
class IdentityStarted:
    """This device has started the identity of its person, and made the recovery key."""

    recovery_key: str = field(repr=False)

    @property
    def sentence(self) -> str:
        """What to do, for people."""
        return "Write the recovery key down: when all your devices are lost, only it brings your identity back."


@dataclass(frozen=True, slots=True)
class DeviceRemoved:
    """A device that this one was to take out of its person's log is out of it."""

    device: bytes

    @property
    def sentence(self) -> str:
        """What it means and what to do, for people."""
        return (
            "The device is removed and signed out: it gets nothing that is written from now on. If somebody else may"
            " open it, start a new identity as well, since it knows your recovery key."
        )


@dataclass(frozen=True, slots=True)
class KeysNotTaken:
    """The server does not take what this device shows of its keys; `message` says why. Nobody can write to it."""

    message: str

    @property
    def sentence(self) -> str:
        """What happened, for people."""
        return f"The server does not take the keys of this device: {self.message}"


@dataclass(frozen=True, slots=True)
class ChangeNotBelieved:
    """The server says that event `seq` changed who is in a dialog, and it is not believed.

    `about` is the person whom it was about; None: the dialog itself.
    """

    dialog: bytes
    seq: int
    reason: RosterReason
    about: bytes | None

    @property
    def sentence(self) -> str:
        """What happened and what to do, for people."""
        return self.reason.sentence


@dataclass(frozen=True, slots=True)
class DevicesDoubted:
    """The list of a person's devices is another one than before, or a lie; `verdict` says which."""

    principal: bytes
    verdict: LogVerdict
    own: bool = False
    """It is the list of this person's own devices."""

    @property
    def sentence(self) -> str:
        """What happened and what to do, for people."""
        return self.verdict.own_sentence if self.own else self.verdict.sentence


@dataclass(frozen=True, slots=True)
class VerifiedElsewhere:
    """The own person has verified somebody on another device."""

    principal: bytes

    @property
    def sentence(self) -> str:
        """What happened, for people."""
        return "You have verified this person on another device of yours."


@dataclass(frozen=True, slots=True)
class ViewsDiffer:
    """In a message of `author` it says that they see other members or devices: nothing is sent in this dialog."""

    dialog: bytes
    author: bytes

    @property
    def sentence(self) -> str:
        """What happened and what to do, for people."""
        return VIEWS_DIFFER


@dataclass(frozen=True, slots=True)
class NotReadBy:
    """These members of a dialog have no device with keys: what is written there now, they cannot read later either."""

    dialog: bytes
    members: tuple[bytes, ...]

    @property
    def sentence(self) -> str:
        """What happened, for people."""
        return (
            "Somebody in this dialog has no device that can read what you write now: they have signed out, or have not"
            " begun yet. Write it again when they are there."
        )


@dataclass(frozen=True, slots=True)
class VerificationStep:
    """Where a verification with a device of `principal` stands: `transaction` names it in what is done next.

    `symbols` are to be compared while COMPARING; `code` can be shown for the other device to scan, from READY on.
    """

    transaction: str
    principal: bytes
    phase: Phase
    symbols: ShownSas | None = None
    code: QrCode | None = None
    cancelled: CancelCode | None = None

    @property
    def sentence(self) -> str:
        """What to do, or how it ended, for people."""
        if self.phase is Phase.CANCELLED:
            return _IDENTITY_MOVED if self.cancelled is None else self.cancelled.sentence
        return _PHASES[self.phase]


_IDENTITY_MOVED = "What was compared is not what the server shows now. Nothing is verified: try again."
_PHASES = {
    Phase.ASKED: "Somebody wants to compare keys with you: accept it if you are in touch with them now.",
    Phase.WAITING: "The other device was asked.",
    Phase.READY: "Both devices are ready: compare symbols, or scan the code of one with the other.",
    Phase.EXCHANGING: "The devices agree on symbols.",
    Phase.COMPARING: "Do both devices show the same symbols? Confirm it only if all of them are the same.",
    Phase.SCANNED: "Confirm it when the other device says that the code was right.",
    Phase.CONFIRMED: "The other side is to confirm it, too.",
    Phase.DONE: "It is verified.",
}


@dataclass(frozen=True, slots=True)
class BackupRefused:
    """The server adds nothing more to the backup; `message` says why. What is in it stays."""

    message: str

    @property
    def sentence(self) -> str:
        """What happened, for people."""
        return f"Newer messages are not in your backup: {self.message}"


@dataclass(frozen=True, slots=True)
class NotRecovered:
    """The identity was not opened with the recovery key that was entered."""

    reason: RecoveryReason

    @property
    def sentence(self) -> str:
        """What happened, for people."""
        return self.reason.sentence


@dataclass(frozen=True, slots=True)
class BackupRestored:
    """The whole backup was read: so many sessions are kept, so many were not what this person sealed."""

    sessions: int
    refused: int

    @property
    def sentence(self) -> str:
        """What happened, for people."""
        if self.refused:
            return f"The backup was read, but {self.refused} parts of it were changed: what they open stays closed."
        return "The backup was read: older messages can be opened now."


ReaderNotice = ChangeNotBelieved | DevicesDoubted | ViewsDiffer | NotReadBy
"""What `Readers` finds out."""
BackupNotice = BackupRefused | BackupRestored | NotRecovered
"""What becomes of the backup."""
Notice = (
    Unreadable
    | NowReadable
    | MessagesMissing
    | StandingChanged
    | IdentityStarted
    | DeviceRemoved
    | KeysNotTaken
    | ReaderNotice
    | VerifiedElsewhere
    | VerificationStep
    | BackupNotice
)
