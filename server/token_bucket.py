"""Token buckets, each kept as one number: the time at which it will be full again (the generic cell rate algorithm).

A bucket holds `burst` tokens and gains one every `interval_s`. A full bucket needs no entry in a table: any time in the
past means the same. Times are monotonic seconds; the caller passes them in.
"""

from __future__ import annotations

ROUNDING_S = 1e-6
"""A shorter wait is a rounding error: the tokens are there."""


def take_tokens(
    full_at: float, now: float, *, interval_s: float, burst: float, cost: float = 1.0
) -> tuple[float, float]:
    """Take `cost` tokens, or a full bucket if that is less. Return the wait and the new `full_at`.

    The wait is 0 if the tokens were taken. Otherwise nothing was taken, and they will be there after that many seconds.
    """
    full_at = max(full_at, now)
    full_after = full_at + min(cost, burst) * interval_s
    wait_s = full_after - now - burst * interval_s
    if wait_s > ROUNDING_S:
        return wait_s, full_at
    return 0.0, full_after
