"""Waiting for what has no event to wait for: the loop turns until it is so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def until(condition: Callable[[], object]) -> None:
    """Let the loop turn until the condition holds; TimeoutError if it does not within 20 s."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what is waited for is inside the product
            await asyncio.sleep(0)
