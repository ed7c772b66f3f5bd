"""Background work in small steps: what the eraser, the trimmer and the purges do between two pauses.

No error ends it: a step that failed is repeated after the longer pause, so each step must be repeatable.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from server.clock import Sleep
from storage.unavailable import StorageUnavailableError

REST_S = 0.05
"""Pause between two steps: about as long as a step, so that it takes half of one connection."""
PURGE_INTERVAL_S = 600.0
"""Pause of a purge that has nothing due."""


async def step_by_step(
    step: Callable[[], Awaitable[bool]],
    log: logging.Logger,
    could_not: str,
    *,
    interval_s: float,
    sleep: Sleep,
    rest_s: float = REST_S,
) -> None:
    """Repeat `step` until cancelled: after `rest_s` while it answers that more is due, else after `interval_s`.

    `could_not` says in the log what failed, as in "could not trim the journal".
    """
    while True:
        try:
            more = await step()
        except Exception as error:
            expected = isinstance(error, StorageUnavailableError)
            log.warning("%s, will try again: %s", could_not, error, exc_info=not expected)
            more = False
        await sleep(rest_s if more else interval_s)
