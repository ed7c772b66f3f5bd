"""Token buckets, each kept as one number: the time at which it will be full again (the generic cell rate algorithm).

A bucket holds `burst` tokens and gains one every `interval_s`. A full bucket needs no entry in a table: any time in the
past means the same. Times are monotonic seconds; the caller passes them in.
"""

from __future__ import annotations

_ROUNDING_S = 1e-6
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
    if wait_s > _ROUNDING_S:
        return wait_s, full_at
    return 0.0, full_after


class TokenBucket:
    """One bucket: `per_s` tokens on average, `burst` at once."""

    __slots__ = ("_burst", "_full_at", "_interval_s")

    def __init__(self, per_s: float, burst: float) -> None:
        self._interval_s = 1.0 / per_s
        self._burst = burst
        self._full_at = 0.0

    def spend(self, now: float, cost: float = 1.0) -> float:
        """Take `cost` tokens, or a full bucket if that is less; 0, or the seconds to wait if nothing was taken."""
        wait_s, self._full_at = take_tokens(
            self._full_at, now, interval_s=self._interval_s, burst=self._burst, cost=cost
        )
        return wait_s
