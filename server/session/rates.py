"""A rate with a burst, kept as one number: the time at which the bucket will be full again (GCRA)."""

from __future__ import annotations


class Rate:
    """`per_s` in the long run, `burst` at once."""

    __slots__ = ("_burst_s", "_full_at", "_interval_s")

    def __init__(self, per_s: float, burst: int) -> None:
        self._interval_s = 1.0 / per_s
        self._burst_s = burst * self._interval_s
        self._full_at = 0.0

    def spend(self, now: float, cost: int = 1) -> float:
        """Take `cost`, at most the burst. 0 if it was there, else the seconds until it will be: nothing is taken."""
        full_at = max(self._full_at, now) + min(cost * self._interval_s, self._burst_s)
        wait = full_at - now - self._burst_s
        if wait > 1e-9:
            return wait
        self._full_at = full_at
        return 0.0
