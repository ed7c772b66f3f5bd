"""Why what somebody else sealed or signed is not believed: one catalogue, with a sentence for a person."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Reason(StrEnum):
    """Stable reasons of `OpenError`."""

    # form
    TOO_LARGE = "too_large"
    MALFORMED = "malformed"
    NOT_CANONICAL = "not_canonical"
    WRONG_FIELDS = "wrong_fields"
    # keys
    UNKNOWN_SESSION = "unknown_session"
    BEFORE_KEYS = "before_keys"
    WRONG_OWNER = "wrong_owner"
    OTHER_SESSION = "other_session"
    UNDECRYPTABLE = "undecryptable"
    OVERUSED = "overused"
    UNKNOWN_DEVICE = "unknown_device"
    UNKNOWN_MEMBERS = "unknown_members"
    NO_KEYS_KEPT = "no_keys_kept"
    # what the ciphertext says, and what the server says
    UNSEALED = "unsealed"
    WRONG_DIALOG = "wrong_dialog"
    WRONG_AUTHOR = "wrong_author"
    WRONG_DEVICE = "wrong_device"
    WRONG_N = "wrong_n"
    WRONG_TAG = "wrong_tag"
    WRONG_KIND = "wrong_kind"
    WRONG_TARGET = "wrong_target"
    WRONG_REPLY_TO = "wrong_reply_to"
    WRONG_EXPIRY = "wrong_expiry"
    WRONG_REF = "wrong_ref"
    WRONG_KEYS_SEQ = "wrong_keys_seq"
    WRONG_VIEW = "wrong_view"
    BAD_COMMITMENT = "bad_commitment"
    REPLAYED = "replayed"
    # channels between devices
    WRONG_SENDER = "wrong_sender"
    WRONG_RECIPIENT = "wrong_recipient"
    REPEATED = "repeated"

    @property
    def sentence(self) -> str:
        """What happened and what to do, for people."""
        return _SENTENCES[self]

    @property
    def may_pass(self) -> bool:
        """Whether the same event may be opened later, with keys or device lists that are not here yet."""
        return self in _MAY_PASS


_SENTENCES = {
    Reason.TOO_LARGE: "This is larger than anything that a client seals.",
    Reason.MALFORMED: "This is not an encrypted message.",
    Reason.NOT_CANONICAL: "This was sealed by a client that does not follow the rules.",
    Reason.WRONG_FIELDS: "This was sealed by a client that does not follow the rules, or by a newer one: update.",
    Reason.UNKNOWN_SESSION: "This device has no keys for this. Another device of yours or your backup may.",
    Reason.BEFORE_KEYS: "This message was written before this device was given the keys.",
    Reason.WRONG_OWNER: "Only another device has given the keys of this message: the server or a member lies.",
    Reason.OTHER_SESSION: "The keys differ from those that this device has under the same name: somebody lies.",
    Reason.UNDECRYPTABLE: "This cannot be decrypted: it is damaged, or its sender has lost the keys.",
    Reason.OVERUSED: "The sender uses its keys longer than allowed: its client must be updated.",
    Reason.UNKNOWN_DEVICE: "This was not written by a device that its author had then.",
    Reason.UNKNOWN_MEMBERS: "This device does not know yet who was in the dialog then.",
    Reason.NO_KEYS_KEPT: "This is encrypted, and this client keeps no keys.",
    Reason.UNSEALED: "This is not encrypted, in a dialog that is: its author did not write it like that.",
    Reason.WRONG_DIALOG: "This message was written in another dialog: the server moved it.",
    Reason.WRONG_AUTHOR: "This message was written by somebody else: the server changed its author.",
    Reason.WRONG_DEVICE: "This message was written on another device: the server changed its device.",
    Reason.WRONG_N: "This message has another number than its author gave it: the server changed it.",
    Reason.WRONG_TAG: "This was written as something else: the server changed a message, an edit or a reaction.",
    Reason.WRONG_KIND: "This message was written as another kind: the server changed it.",
    Reason.WRONG_TARGET: "This was written about another message: the server moved it.",
    Reason.WRONG_REPLY_TO: "This message answers another one: the server changed it.",
    Reason.WRONG_EXPIRY: "This message was written to disappear at another time: the server changed it.",
    Reason.WRONG_REF: "This message was written about another order or payment: the server changed it.",
    Reason.WRONG_KEYS_SEQ: "This message was written at another state of the members: the server changed it.",
    Reason.WRONG_VIEW: "Its author sees other members or devices than you do: do not write until you know why.",
    Reason.BAD_COMMITMENT: "This message could not be reported: its sender or the server spoiled the proof.",
    Reason.REPLAYED: "This message was shown before: the server repeats it.",
    Reason.WRONG_SENDER: "These keys were sent by another device than the server says.",
    Reason.WRONG_RECIPIENT: "These keys were made for another device.",
    Reason.REPEATED: "These keys were received before.",
}

_MAY_PASS = frozenset(
    {
        Reason.UNKNOWN_SESSION,
        Reason.BEFORE_KEYS,
        Reason.WRONG_OWNER,
        Reason.UNKNOWN_DEVICE,
        Reason.UNKNOWN_MEMBERS,
    }
)


class OpenError(Exception):
    """What another device sealed is not opened, and nothing of it is believed; `reason` says why."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(f"{reason}: {reason.sentence}")
        self.reason = reason


class NoChannelError(Exception):
    """There is no Olm session with this device: claim a one-time key of it, then open a channel."""


class NotSharedError(Exception):
    """The session is used up, or not all who may read have it: share first."""


class TooManySharesError(Exception):
    """SHARES_IN_FLIGHT_MAX shares await the message that makes them live: wait for an ack."""


class OtherDeviceError(Exception):
    """The state has the keys of another device, or newer ones than the server knows: it is not used."""


class RosterReason(StrEnum):
    """Stable reasons why what the server says of the members of a sealed dialog is not believed."""

    UNSIGNED = "unsigned"
    WRONG_SIGNATURE = "wrong_signature"
    UNKNOWN_DEVICE = "unknown_device"
    NOT_ENTITLED = "not_entitled"
    WRONG_DIALOG = "wrong_dialog"
    FORKED_CREATION = "forked_creation"
    NOT_SEALED = "not_sealed"
    WRONG_MEMBERS = "wrong_members"
    REPLAYED = "replayed"
    WRONG_VIEW = "wrong_view"
    WRONG_HEIR = "wrong_heir"
    WRONG_LOG = "wrong_log"
    STILL_REMOVED = "still_removed"

    @property
    def sentence(self) -> str:
        """What happened and what to do, for people."""
        return _ROSTER_SENTENCES[self]


_WAY_OUT = " An admin removes whom it brought, or somebody creates another dialog."
_ROSTER_SENTENCES = {
    RosterReason.UNSIGNED: "Nobody has signed who is in this dialog: it is from before encryption, or the server lies."
    " Remove who should not be there, or create another dialog.",
    RosterReason.WRONG_SIGNATURE: "The server says that a member made this change, but their device did not sign it."
    + _WAY_OUT,
    RosterReason.UNKNOWN_DEVICE: "This change was signed by a device that its owner did not have then." + _WAY_OUT,
    RosterReason.NOT_ENTITLED: "Somebody who is no admin of this dialog made this change." + _WAY_OUT,
    RosterReason.WRONG_DIALOG: "This dialog has another id than its creation gives it: the server made it up. Create"
    " another one.",
    RosterReason.FORKED_CREATION: "The server shows another beginning of this dialog than before. Nothing is sent:"
    " create another one.",
    RosterReason.NOT_SEALED: "This dialog cannot be encrypted: everybody may join it or read it from the start. Create"
    " another one.",
    RosterReason.WRONG_MEMBERS: "These are not members that such a change can bring." + _WAY_OUT,
    RosterReason.REPLAYED: "The server repeats an older change, perhaps to bring somebody back who was removed."
    + _WAY_OUT,
    RosterReason.WRONG_VIEW: "Who made this change saw other members or devices than you do. It must be made again.",
    RosterReason.WRONG_HEIR: "The server chose another admin than the member who has been here longest.",
    RosterReason.WRONG_LOG: "The server shows another list of this person's devices here than elsewhere.",
    RosterReason.STILL_REMOVED: "This person was removed, and the server has lost that. An admin removes them again,"
    " and then adds them again if they belong here.",
}


class RosterRefusedError(Exception):
    """Nothing may be sent in this dialog until what the server says of its members is believed; `reason` says why."""

    def __init__(self, reason: RosterReason) -> None:
        super().__init__(f"{reason}: {reason.sentence}")
        self.reason = reason


class LogsNeededError(Exception):
    """The device logs of people are not known as far as this event goes: read them, then apply it again.

    `generations`: of each, the identity whose log it is, which may be one before the newest.
    """

    def __init__(self, generations: Mapping[bytes, int]) -> None:
        super().__init__(f"{len(generations)} device logs must be read first")
        self.generations = generations
