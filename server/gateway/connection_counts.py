"""What the limits of connections count: open ones, and what has been used of their rates, in all and by network.

`LocalCounts` are those of one process. `shared_counts.py` has those of all workers of a server.
"""

from __future__ import annotations

from typing import Protocol

_NETWORKS_MAX = 50_000


class ConnectionCounts(Protocol):
    """Numbers only; `ConnectLimits` judges them. A network's may be too high by chance, never too low.

    A bucket of tokens is the monotonic time at which it is full again (`server/token_bucket.py`).
    """

    def total(self) -> int:
        """Open connections."""

    def change_total(self, by: int) -> None:
        """Count one more (1) or less (-1)."""

    def of(self, network: str) -> int:
        """Open connections of a network."""

    def change(self, network: str, by: int) -> None:
        """Count one more (1) or less (-1) for a network."""

    def total_full_at(self) -> float:
        """The bucket of all connections."""

    def set_total_full_at(self, at: float) -> None:
        """Put what `take_tokens` returned there."""

    def full_at(self, network: str) -> float:
        """The bucket of a network; any time in the past if it is full."""

    def set_full_at(self, network: str, at: float, now: float) -> None:
        """Put what `take_tokens` returned there."""


class LocalCounts(ConnectionCounts):
    """Those of one process, exact.

    A full bucket needs no entry, so the table of buckets holds those of the last second or so; it has a bound, too.
    """

    def __init__(self) -> None:
        self._total = 0
        self._counts: dict[str, int] = {}
        self._total_full_at = 0.0
        self._full_at: dict[str, float] = {}

    def total(self) -> int:
        return self._total

    def change_total(self, by: int) -> None:
        self._total += by
        assert self._total >= 0

    def of(self, network: str) -> int:
        return self._counts.get(network, 0)

    def change(self, network: str, by: int) -> None:
        count = self._counts.get(network, 0) + by
        if count:
            self._counts[network] = count
        else:
            del self._counts[network]

    def total_full_at(self) -> float:
        return self._total_full_at

    def set_total_full_at(self, at: float) -> None:
        self._total_full_at = at

    def full_at(self, network: str) -> float:
        return self._full_at.get(network, 0.0)

    def set_full_at(self, network: str, at: float, now: float) -> None:
        if len(self._full_at) >= _NETWORKS_MAX:
            self._full_at = {network: at for network, at in self._full_at.items() if at > now}
        while len(self._full_at) >= _NETWORKS_MAX:  # then only the rate of all connections protects the node
            del self._full_at[next(iter(self._full_at))]
        self._full_at[network] = at
