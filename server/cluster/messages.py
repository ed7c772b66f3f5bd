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


NodeMessage = NodeEvents | NodeTick

encode_message = msgspec.msgpack.Encoder().encode
decode_message = msgspec.msgpack.Decoder(NodeMessage).decode
