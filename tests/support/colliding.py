"""Keys that all have the same hash in Python: a dict of them takes quadratic time to build.

The hash of a tuple of integers has no secret (CPython, Objects/tupleobject.c: a variant of xxHash), so the second
integer is solved for, given the first.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice

import msgspec

_PRIME_1, _PRIME_2, _PRIME_5 = 11400714785074694791, 14029467366897019727, 2870177450012600261
_WORD = 1 << 64
_WANTED = 1
"""Any number will do."""


def colliding_keys(number: int) -> list[tuple[int, int]]:
    """So many different pairs of integers with one hash."""
    return list(islice(_find(), number))


def _find() -> Iterator[tuple[int, int]]:
    inverse = pow(_PRIME_2, -1, _WORD)
    for first in count():
        mixed = (_PRIME_5 + first * _PRIME_2) % _WORD
        rotated = (mixed << 31 | mixed >> 33) % _WORD
        second = (_WANTED - rotated * _PRIME_1) * inverse % _WORD
        if second < (1 << 61) - 1:  # smaller integers are their own hash
            yield first, second


def packed_table(number: int) -> bytes:
    """A map of such keys in msgpack."""
    keys = (msgspec.msgpack.encode(key) + b"\x00" for key in colliding_keys(number))
    return b"\xde" + number.to_bytes(2, "big") + b"".join(keys)
