"""The position from which a client resumes: an opaque text that names an epoch, a horizon and its owner.

It grants nothing: it only says how much a member already has. A text that cannot be decoded, or is a position of
another epoch, of another principal or of the future, counts as no position: the client gets `recovered: false`.
"""

from __future__ import annotations

import base64
import binascii

import msgspec


class Position(msgspec.Struct, array_like=True, frozen=True):
    """Everything written before `horizon` in `epoch` has been delivered to `principal`."""

    epoch: int
    horizon: int
    principal: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Position).decode


def to_text(position: Position) -> str:
    """The text a client keeps."""
    return base64.urlsafe_b64encode(_encode(position)).decode("ascii")


def from_text(text: str, *, epoch: int, principal: bytes) -> int | None:
    """The horizon, if the text is a position of this principal in this epoch."""
    try:
        position = _decode(base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True))
    except (msgspec.MsgspecError, binascii.Error, ValueError):
        return None
    if position.epoch != epoch or position.principal != principal or not 0 <= position.horizon < 2**63:
        return None
    return position.horizon
