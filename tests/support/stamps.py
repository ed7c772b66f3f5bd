"""Stamps of connections without a database."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable


def drawing() -> Callable[[], Awaitable[int]]:
    """What draws 1, 2, 3, ..."""
    numbers = itertools.count(1)

    async def draw() -> int:
        return next(numbers)

    return draw
