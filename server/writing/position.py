"""The position from which a client resumes: an opaque text that only this deployment can make.

It carries an epoch, a horizon and the time of its issue, authenticated together with its owner. A text that we did not
make, or one of another principal, of another epoch, or too old, counts as no position: the client gets
`recovered: false`. So a resume never reads further back than `age_max_s`, whatever a client sends.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import struct
from typing import NamedTuple

from server.clock import Clock

_FIELDS = struct.Struct(">QQQ")  # epoch, horizon, time of issue in seconds
_TAG_BYTES = 16
_AHEAD_S_MAX = 3_600
"""How far the clock of another node may be ahead of ours."""


class Position(NamedTuple):
    """What a position says to its owner; no horizon if it is too old."""

    epoch: int
    horizon: int | None


class Positions:
    """Issues positions and reads them back; `key` is the deployment's own, 16 to 64 random bytes."""

    def __init__(self, key: bytes, clock: Clock, *, age_max_s: float) -> None:
        self._key = key
        self._clock = clock
        self._age_max_s = age_max_s

    def issue(self, epoch: int, horizon: int, principal: bytes) -> str:
        """The text that says: everything written before `horizon` in `epoch` has been delivered to `principal`."""
        fields = _FIELDS.pack(epoch, horizon, self._now_s())
        return base64.urlsafe_b64encode(fields + self._tag(fields, principal)).decode("ascii")

    def read(self, text: str, principal: bytes) -> Position | None:
        """What the text says, if it is a position of this principal."""
        try:
            raw = base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        fields, tag = raw[: _FIELDS.size], raw[_FIELDS.size :]
        if not hmac.compare_digest(tag, self._tag(fields, principal)):
            return None
        epoch, horizon, issued_s = _FIELDS.unpack(fields)
        holds = -_AHEAD_S_MAX <= self._now_s() - issued_s <= self._age_max_s
        return Position(epoch, horizon if holds else None)

    def _tag(self, fields: bytes, principal: bytes) -> bytes:
        return hashlib.blake2b(fields + principal, digest_size=_TAG_BYTES, key=self._key).digest()

    def _now_s(self) -> int:
        return self._clock.wall_ms() // 1000
