"""Claims of one-time keys: numbered, one at a time, and the same again until the channels are open.

The server gives the same keys to the same claim, and a key opens one channel only. So the number of a claim and its
devices are durable before it leaves, and it ends in the commit that opens the channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tchat.crypto.olm import KnownDevice
from tchat.crypto.state import Step, Table


class NumberedClaim(msgspec.Struct, frozen=True, array_like=True):
    """A claim, by its number, of keys of devices of members of a dialog."""

    number: int
    dialog: bytes
    devices: tuple[KnownDevice, ...]
    ended: bool = False


def under_way(step: Step) -> NumberedClaim | None:
    """The claim that is not ended."""
    claim = _read(step)
    return None if claim is None or claim.ended else claim


def begin(step: Step, dialog: bytes, devices: Sequence[KnownDevice], at_least: int) -> NumberedClaim:
    """A new claim of keys of these devices; the one that is under way, if one is."""
    before = _read(step)
    if before is not None and not before.ended:
        return before
    claim = NumberedClaim(max(at_least, before.number + 1 if before else 1), dialog, tuple(devices))
    step.write(Table.CLAIMS, b"", msgspec.msgpack.encode(claim))
    return claim


def end(step: Step) -> None:
    """The claim is answered for good."""
    claim = _read(step)
    if claim is not None and not claim.ended:
        step.write(Table.CLAIMS, b"", msgspec.msgpack.encode(NumberedClaim(claim.number, b"", (), ended=True)))


def _read(step: Step) -> NumberedClaim | None:
    data = step.read(Table.CLAIMS)
    return None if data is None else msgspec.msgpack.decode(data, type=NumberedClaim)
