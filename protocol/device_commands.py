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
from protocol.limits import DEVICE_MESSAGES_PER_COMMAND_MAX, SLICE_BYTES_MAX
from protocol.share_commands import OfShares

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


OfKeys = OfShares | SendToDevice | ConfirmToDevice
"""Commands about keys, and about what the server keeps for devices."""
