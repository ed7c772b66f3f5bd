"""Commands about shares: how the keys of a Megolm session reach the devices that may read.

A share is made of slices, one for each device that lacks the session: its keys, encrypted to that device. The slices
are uploaded first. They go out with the event whose header names the share, in its commit.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from protocol.bodies import Count, MegolmSession, Seq
from protocol.command_rules import WHEN_LIVE, Command, CommandRule
from protocol.errors import ErrorCode
from protocol.ids import Id
from protocol.limits import SLICE_BYTES_MAX, SLICES_PER_COMMAND_MAX


class Slice(msgspec.Struct, array_like=True, frozen=True):
    """The keys of a session for one device: Matrix' encrypted message to it. The server cannot read it."""

    device: Id
    body: Annotated[bytes, msgspec.Meta(min_length=1, max_length=SLICE_BYTES_MAX)]


class UploadSlices(Command, tag=105, frozen=True):
    """Upload slices of a share of this device in a sealed dialog, before the event that names it.

    `share` is an id that the client makes. It stands for one `dialog`, `session` and `keys_seq`, which is that of the
    dialog at present. Each member's device that has keys needs the session, the author's other devices, too; those that
    got it in an earlier share, which an event has named, need no slice. The author's device has keys and is in their
    device log: nobody would believe another one. Slices that are stored already are passed over, so a command is
    repeated without harm. `more`: other slices of the share follow, so what it lacks is not looked up, and `complete`
    is false. A share that no event can name any more is dropped when the device uploads another one in the dialog; of
    others that no event has named the newest 16 are kept, for a day.
    """

    rule: ClassVar = CommandRule(
        states=WHEN_LIVE,
        # What the whole share lacks is looked up with the last one: in a dialog of a thousand members 20 ms.
        cost=lambda command: (1 if command.more else 5) + len(command.slices) // 10,
        codes=frozenset(
            {
                ErrorCode.DIALOG_NOT_FOUND,
                ErrorCode.INVALID_ARGUMENT,
                ErrorCode.CONFLICT,
                ErrorCode.KEYS_MISSING,
                ErrorCode.STALE,
                ErrorCode.UNAVAILABLE,
            }
        ),
    )

    share: Id
    dialog: Id
    session: MegolmSession
    keys_seq: Count
    slices: Annotated[list[Slice], msgspec.Meta(max_length=SLICES_PER_COMMAND_MAX)]
    more: bool = False


class ConfirmSlices(Command, tag=106, frozen=True):
    """These slices are stored in the device: the server need not keep them. `numbers` are those of `key_slices`."""

    rule: ClassVar = CommandRule(
        states=WHEN_LIVE,
        cost=lambda command: 1 + len(command.numbers) // 50,
        codes=frozenset({ErrorCode.UNAVAILABLE}),
    )

    numbers: Annotated[list[Seq], msgspec.Meta(min_length=1, max_length=SLICES_PER_COMMAND_MAX)]
