"""Commands about the keys of devices: what others need to encrypt to them, and who says which devices there are.

All objects are Matrix' (`cross_signing.py`) or entries of a device log (`device_log.py`), as the bytes of their
canonical JSON. The server checks them with the functions of those modules; so does every client.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from protocol.bodies import Count, N
from protocol.command_rules import WHEN_LIVE, Command, CommandRule
from protocol.errors import ErrorCode
from protocol.ids import Id
from protocol.limits import (
    DEVICE_LOG_ENTRIES_PER_COMMAND_MAX,
    DEVICE_LOG_ENTRY_BYTES_MAX,
    KEY_CLAIMS_PER_COMMAND_MAX,
    KEY_ID_CHARS,
    KEY_OBJECT_BYTES_MAX,
    ONE_TIME_KEY_BYTES_MAX,
    ONE_TIME_KEYS_PER_COMMAND_MAX,
    PEOPLE_PER_COMMAND_MAX,
)

KeyId = Annotated[str, msgspec.Meta(min_length=KEY_ID_CHARS, max_length=KEY_ID_CHARS)]
KeyObject = Annotated[bytes, msgspec.Meta(max_length=KEY_OBJECT_BYTES_MAX)]
OneTimeKeyObject = Annotated[bytes, msgspec.Meta(max_length=ONE_TIME_KEY_BYTES_MAX)]
LogEntry = Annotated[bytes, msgspec.Meta(max_length=DEVICE_LOG_ENTRY_BYTES_MAX)]


class NamedKey(msgspec.Struct, array_like=True, frozen=True):
    """A one-time key or fallback key: a signed object, and its id.

    The id is base64 without padding of 8 bytes, big endian: a number that grows with each key that the device makes.
    """

    id: KeyId
    key: OneTimeKeyObject


NamedKeys = Annotated[list[NamedKey], msgspec.Meta(max_length=ONE_TIME_KEYS_PER_COMMAND_MAX)]


class KnownLog(msgspec.Struct, array_like=True, frozen=True):
    """How much of a person's device log the asker has: of which identity, and how many entries. 0: nothing.

    Of an identity before the newest the rest is given, as far as the server has it, and the newest if there is no rest.
    """

    principal: Id
    generation: Count = 0
    length: Count = 0


class UploadKeys(Command, tag=100, frozen=True):
    """Show others the keys of this device, and give one-time keys out; the answer says what the server has then.

    A key whose id is not above those of all one-time keys before it, in this `generation`, is not taken again, so an
    upload is repeated without harm. The same holds for the fallback key, of which the newest is kept. A higher
    `generation` needs other keys in `device_keys`, and drops what is there of the one before.
    """

    rule: ClassVar = CommandRule(
        states=WHEN_LIVE,
        cost=lambda command: 1 + len(command.one_time_keys) // 5,  # each has a signature to check
        codes=frozenset(
            {
                ErrorCode.KEYS_REFUSED,
                ErrorCode.KEYS_PASSED,
                ErrorCode.KEYS_BOUND,
                ErrorCode.SIGNED_OUT,
                ErrorCode.UNAVAILABLE,
            }
        ),
    )

    generation: N
    device_keys: KeyObject
    one_time_keys: NamedKeys = msgspec.field(default_factory=list)
    fallback: NamedKey | None = None


class ClaimKeys(Command, tag=101, frozen=True):
    """Get one key of each of these devices of members of a dialog, to open a channel to it.

    `claim` counts the claims of this device, from 1. The same claim, sent again, gets the same answer: keep it, with
    its devices, until the channels are stored. A one-time key is given to one claim only; when a device has none left,
    or too many were claimed lately, its fallback key is given.
    """

    rule: ClassVar = CommandRule(
        states=WHEN_LIVE,
        cost=lambda command: 1 + len(command.devices) // 10,
        codes=frozenset(
            {
                ErrorCode.DIALOG_NOT_FOUND,
                ErrorCode.KEYS_MISSING,
                ErrorCode.CONFLICT,
                ErrorCode.NUMBER_PASSED,
                ErrorCode.UNAVAILABLE,
            }
        ),
    )

    claim: N
    dialog: Id
    devices: Annotated[list[Id], msgspec.Meta(min_length=1, max_length=KEY_CLAIMS_PER_COMMAND_MAX)]


class ReadDevices(Command, tag=102, frozen=True):
    """The device logs, identities and device keys of members of a dialog, the author included.

    Of who has left, their log as the dialog has last named it, and no keys.
    """

    rule: ClassVar = CommandRule(
        states=WHEN_LIVE,
        cost=lambda command: 1 + len(command.people) // 5,
        codes=frozenset({ErrorCode.DIALOG_NOT_FOUND, ErrorCode.UNAVAILABLE}),
    )

    dialog: Id
    people: Annotated[list[KnownLog], msgspec.Meta(min_length=1, max_length=PEOPLE_PER_COMMAND_MAX)]


class ReadRosterAt(Command, tag=112, frozen=True):
    """Who was in a sealed dialog when somebody signed what brought the author, and what changed up to their joining.

    With `since` instead: the events of the roster from that number on that the author may see, for who has heard only a
    window of the dialog. Either answer is a page: ask again with `after`, the number of its last event, or its
    `keys_seq` if it has none; or with a higher `since`.
    """

    rule: ClassVar = CommandRule(
        states=WHEN_LIVE,
        cost=lambda _: 5,
        codes=frozenset({ErrorCode.DIALOG_NOT_FOUND, ErrorCode.UNAVAILABLE}),
    )

    dialog: Id
    after: Count | None = None
    since: Count | None = None


class AppendDeviceLog(Command, tag=103, frozen=True):
    """Append entries to the author's own device log, or start the log of a new identity.

    Entries that the log has already are passed over, so it is repeated without harm. A device that an entry adds has
    uploaded its keys before, or the server has lost them: nobody encrypts for it until it has.
    """

    rule: ClassVar = CommandRule(
        states=WHEN_LIVE,
        cost=lambda command: 2 + len(command.entries),
        codes=frozenset(
            {
                ErrorCode.KEYS_REFUSED,
                ErrorCode.KEYS_MISSING,
                ErrorCode.LOG_PASSED,
                ErrorCode.DAILY_LIMIT,
                ErrorCode.UNAVAILABLE,
            }
        ),
    )

    entries: Annotated[list[LogEntry], msgspec.Meta(min_length=1, max_length=DEVICE_LOG_ENTRIES_PER_COMMAND_MAX)]


class PutIdentity(Command, tag=104, frozen=True):
    """Show others the cross-signing keys of the author; the master key is that of their device log."""

    rule: ClassVar = CommandRule(
        states=WHEN_LIVE,
        codes=frozenset({ErrorCode.KEYS_REFUSED, ErrorCode.UNAVAILABLE}),
    )

    master: KeyObject
    self_signing: KeyObject
    user_signing: KeyObject
