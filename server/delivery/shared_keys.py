"""The keys that an event brings: which share it names, and the slices of that share for the devices that are here.

The slices are read from the store when the event is delivered: the share became live in the commit of the event, on
whichever node. All that are for devices here are read by one statement for each `_DEVICES_PER_READ` of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from protocol.bodies import Edited, Posted, Reacted, TimelineEventRaw, tag_of
from protocol.events import KeySlice, KeySlices
from protocol.limits import SLICES_PER_COMMAND_MAX
from storage.shares import Shares, SliceRow

_DEVICES_PER_READ = 500
_WITH_HEADER = frozenset(tag_of(body) for body in (Posted, Edited, Reacted))
_decode = msgspec.msgpack.Decoder(Posted | Edited | Reacted).decode


def find_share(event: TimelineEventRaw) -> tuple[bytes, bytes] | None:
    """`(device, share)` of the share that an event names."""
    if memoryview(event.body)[1] not in _WITH_HEADER:  # a body is an array that begins with its tag
        return None
    share = _decode(event.body).header.share
    return None if share is None else (event.device, share)


async def read_keys(
    shares: Shares, share: tuple[bytes, bytes], devices: Iterable[bytes]
) -> dict[bytes, list[KeySlice]]:
    """What a share `(device, share)` has for each of these devices."""
    keys: dict[bytes, list[KeySlice]] = {device: [] for device in devices}
    asked = list(keys)
    for start in range(0, len(asked), _DEVICES_PER_READ):
        for row in await shares.read_shared([share], asked[start : start + _DEVICES_PER_READ]):
            keys[row.to_device].append(_slice_of(row))
    return keys


def messages_of(rows: Sequence[SliceRow]) -> Iterator[KeySlices]:
    """These slices as they are sent to their device: no message has more than `SLICES_PER_COMMAND_MAX`."""
    for start in range(0, len(rows), SLICES_PER_COMMAND_MAX):
        yield KeySlices([_slice_of(row) for row in rows[start : start + SLICES_PER_COMMAND_MAX]])


def _slice_of(row: SliceRow) -> KeySlice:
    """A slice as its device gets it."""
    return KeySlice(row.number, row.dialog, row.author, row.device, row.keys_seq, row.body)
