"""What nodes tell each other over the bus. Fields are only appended, with defaults: nodes of two versions talk."""

from __future__ import annotations

import msgspec

from protocol.bodies import TimelineEventRaw


class NodeEvents(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """Rows that `source` made durable, of dialogs with members at the target."""

    source: int
    epoch: int
    k: int
    """Counts what `source` had for the target: dense, so a number that is missing was lost."""
    events: list[TimelineEventRaw]
    roster_seqs: list[int]
    """For each event that of its dialog, after its flush."""


class NodeTick(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """Each second: the target was told all rows of `source` before `horizon`, in messages up to number `k`."""

    source: int
    epoch: int
    k: int
    horizon: int
    token: str
    """The presence of `source` is whole under this token; empty: it is not."""
    registers_rooms: bool = False
    """Rooms of large dialogs are part of that; without, all events of large dialogs are sent to it."""


class DeviceTaken(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """The connection with this stamp is that of the device, unless another one has a higher stamp."""

    principal: bytes
    device: bytes
    stamp: int


class TypingShown(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """A member is writing, or has stopped."""

    dialog: bytes
    principal: bytes
    active: bool


class ReceiptRaised(msgspec.Struct, array_like=True, frozen=True, tag=3):
    """How far a member has received and read; for the other members only if `shared`."""

    dialog: bytes
    principal: bytes
    delivered: int
    read: int
    read_messages: int
    shared: bool


class PresenceNoted(msgspec.Struct, array_like=True, frozen=True, tag=4):
    """Somebody has come to a node, or has left one: who follows them looks them up."""

    principal: bytes
    online: bool


class DeviceMessagesStored(msgspec.Struct, array_like=True, frozen=True, tag=5):
    """Messages wait for these devices: the node that one of them is connected to pushes them."""

    devices: list[bytes]


Signal = DeviceTaken | TypingShown | ReceiptRaised | PresenceNoted | DeviceMessagesStored


class NodeSignals(msgspec.Struct, array_like=True, frozen=True, tag=3):
    """What is no row, and may be lost."""

    source: int
    epoch: int
    signals: list[Signal]


NodeMessage = NodeEvents | NodeTick | NodeSignals

encode_message = msgspec.msgpack.Encoder().encode
decode_message = msgspec.msgpack.Decoder(NodeMessage).decode
