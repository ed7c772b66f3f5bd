"""Commands about what the server keeps for a person's devices: messages from device to device, and the backup.

Both are opaque to the server. Messages are no part of a dialog: no member sees them, and they are in no timeline.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from protocol.bodies import N
from protocol.command_rules import WHEN_LIVE, Command, CommandRule
from protocol.errors import ErrorCode
from protocol.ids import Id
from protocol.key_commands import AppendDeviceLog, ClaimKeys, PutIdentity, ReadDevices, ReadRosterAt, UploadKeys
from protocol.limits import (
    BACKUP_KEY_BYTES,
    BACKUP_VALUE_BYTES_MAX,
    BACKUP_VALUES_PER_COMMAND_MAX,
    BACKUP_VALUES_PER_PAGE_MAX,
    DEVICE_MESSAGES_PER_COMMAND_MAX,
    SLICE_BYTES_MAX,
)
from protocol.report_commands import Report
from protocol.share_commands import ConfirmSlices, UploadSlices

BackupKey = Annotated[bytes, msgspec.Meta(min_length=BACKUP_KEY_BYTES, max_length=BACKUP_KEY_BYTES)]
MessageBody = Annotated[bytes, msgspec.Meta(min_length=1, max_length=SLICE_BYTES_MAX)]


class DeviceMessage(msgspec.Struct, array_like=True, frozen=True):
    """A message for one device."""

    device: Id
    body: MessageBody


class SendToDevice(Command, tag=110, frozen=True):
    """Write to devices of members of a dialog, outside of it; to own devices in the `self` dialog.

    `message` is an id that the client makes: a command that is repeated with it is stored once. The devices have keys
    here. The server keeps a message until its device has confirmed it. All are stored, or none.
    """

    rule: ClassVar = CommandRule(
        states=WHEN_LIVE,
        cost=lambda command: 1 + len(command.messages),
        codes=frozenset(
            {
                ErrorCode.DIALOG_NOT_FOUND,
                ErrorCode.INVALID_ARGUMENT,
                ErrorCode.BLOCKED,
                ErrorCode.MESSAGES_BOUND,
                ErrorCode.RATE_LIMITED,
                ErrorCode.UNAVAILABLE,
            }
        ),
    )

    message: Id
    dialog: Id
    messages: Annotated[list[DeviceMessage], msgspec.Meta(min_length=1, max_length=DEVICE_MESSAGES_PER_COMMAND_MAX)]


class ConfirmToDevice(Command, tag=111, frozen=True):
    """All messages to this device up to `number` are stored in it: the server need not keep them."""

    rule: ClassVar = CommandRule(states=WHEN_LIVE, codes=frozenset({ErrorCode.UNAVAILABLE}))

    number: N


class BackupValue(msgspec.Struct, array_like=True, frozen=True):
    """Something sealed under the recovery key: the identity, the keys of a session, or whom its person has verified.

    `key` is a hash of the session and its device, zeros for the identity, or above all of these for a person. The
    `version` of a session's keys is higher the earlier they begin, `N_MAX` less the index of the first message that
    they open; of the identity it is 1; of a person it is when that was said, in milliseconds since 1970.
    """

    key: BackupKey
    version: N
    value: Annotated[bytes, msgspec.Meta(min_length=1, max_length=BACKUP_VALUE_BYTES_MAX)]


class PutBackup(Command, tag=108, frozen=True):
    """Add to the backup of the author's identity, which is that of this `generation` of their device log.

    Only a device in the log may. A value replaces one of a lower version; it is passed over if one of its own version
    or a higher one is there, so a command is repeated without harm.
    """

    rule: ClassVar = CommandRule(
        states=WHEN_LIVE,
        cost=lambda command: 1 + len(command.values) // 10,
        codes=frozenset(
            {ErrorCode.INVALID_ARGUMENT, ErrorCode.LOG_PASSED, ErrorCode.BACKUP_BOUND, ErrorCode.UNAVAILABLE}
        ),
    )

    generation: N
    values: Annotated[list[BackupValue], msgspec.Meta(min_length=1, max_length=BACKUP_VALUES_PER_COMMAND_MAX)]


class ReadBackup(Command, tag=109, frozen=True):
    """A page of the own backup, in the order of keys, after `after`; without it from the identity on.

    With `limit` 1, and `after` one below its key, it is one value. Any own device may read it: nothing in it opens
    without the recovery key.
    """

    rule: ClassVar = CommandRule(
        states=WHEN_LIVE, cost=lambda command: 1 + command.limit // 25, codes=frozenset({ErrorCode.UNAVAILABLE})
    )

    generation: N
    after: BackupKey | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=BACKUP_VALUES_PER_PAGE_MAX)] = BACKUP_VALUES_PER_PAGE_MAX


OfKeys = (
    UploadKeys
    | ClaimKeys
    | ReadDevices
    | ReadRosterAt
    | AppendDeviceLog
    | PutIdentity
    | UploadSlices
    | ConfirmSlices
    | SendToDevice
    | ConfirmToDevice
    | PutBackup
    | ReadBackup
    | Report
)
"""All commands about keys, devices, shares and backups, and the report."""
