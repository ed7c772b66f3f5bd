"""Latencies of one sort, counted in an HdrHistogram: three digits, from a microsecond to an hour.

The library takes a microsecond or two for each value, which at a hundred thousand values a second is more than the
whole client. So values are first counted in a dict, as exactly as the histogram tells them apart: that bounds it.
"""

from __future__ import annotations

from hdrh.histogram import HdrHistogram

from loadtest.run_result import Percentiles

_MAX_US = 3_600_000_000
_DIGITS = 3
_BITS = 11
_EXACT_US = 2**_BITS - 1
_RANKS = (50.0, 90.0, 99.0, 99.9, 100.0)

DelayCounts = dict[int, int]
"""How often there was a latency of so many microseconds."""


class Latencies:
    """Durations that came one by one, or from other processes."""

    def __init__(self) -> None:
        self._histogram = HdrHistogram(1, _MAX_US, _DIGITS)
        self._counts: DelayCounts = {}
        self._new: DelayCounts = {}

    def record(self, duration_ns: int) -> None:
        """Count one; above an hour it counts as an hour, below a microsecond as one."""
        us = duration_ns // 1000
        if us > _EXACT_US:
            beyond = us.bit_length() - _BITS
            us = us >> beyond << beyond
        self._new[us] = self._new.get(us, 0) + 1

    def take_new(self) -> DelayCounts:
        """What came since the last call."""
        new, self._new = self._new, {}
        add_counts(self._counts, new)
        return new

    def merge(self, encoded: str) -> None:
        """Add what `encode` of another returned."""
        self._histogram.decode_and_add(encoded)

    def encode(self) -> str:
        """All of it: HdrHistogram V2, compressed, in base64."""
        self._empty()
        encoded: bytes = self._histogram.encode()
        return encoded.decode()

    def percentiles(self) -> Percentiles | None:
        """What a person looks at, and the whole histogram; None if nothing was recorded."""
        self._empty()
        if not self._histogram.get_total_count():
            return None
        found = self._histogram.get_percentile_to_value_dict(list(_RANKS))
        p50, p90, p99, p999, top = (found[rank] / 1000 for rank in _RANKS)
        return Percentiles(self._histogram.get_total_count(), p50, p90, p99, p999, top, self.encode())

    def _empty(self) -> None:
        self.take_new()
        counts, self._counts = self._counts, {}
        for us, count in counts.items():
            self._histogram.record_value(min(max(us, 1), _MAX_US), count)


def add_counts(sums: DelayCounts, more: DelayCounts) -> None:
    """Add the second to the first."""
    for us, count in more.items():
        sums[us] = sums.get(us, 0) + count


def percentile_ms(counts: DelayCounts, percent: float) -> float | None:
    """Within how many milliseconds so many of them were; None if there are none."""
    left = sum(counts.values()) * percent / 100
    for us in sorted(counts):
        left -= counts[us]
        if left <= 0:
            return us / 1000
    return None
