"""How many connections may be open and how fast new ones may arrive, for the node and for each client address.

Rates are token buckets. A connection that ends as a stranger's counts as many: to connect costs the server more than it
costs a client.
"""

import math
from collections.abc import Callable

import msgspec

from server.clock import Clock
from server.config.settings import GatewaySettings
from server.gateway.connection_counts import ConnectionCounts, LocalCounts
from server.networks import network_of
from server.token_bucket import take_tokens

_STRANGER_COST = 20
_DEBT_S_MAX = 2.0


class ConnectRefused(msgspec.Struct, frozen=True):
    """Why a connection is refused, and when to retry."""

    status: int
    reason: str
    retry_after_s: int


class ConnectLimits:
    """Counts open connections and limits the rate of new ones."""

    def __init__(
        self,
        settings: GatewaySettings,
        clock: Clock,
        exempt: Callable[[str], bool],
        counts: ConnectionCounts | None = None,
    ) -> None:
        """`exempt(address)`: whether an address has no limits of its own; many clients share a proxy's address.

        `counts`: those that several processes share; without them, this one's own.
        """
        self._settings = settings
        self._clock = clock
        self._exempt = exempt
        self.counts = LocalCounts() if counts is None else counts

    @property
    def count(self) -> int:
        """Open connections."""
        return self.counts.total()

    def open(self) -> ConnectRefused | None:
        """Count one more connection, unless the node is full."""
        if self.counts.total() >= self._settings.connections_max:
            return ConnectRefused(503, "this node has too many connections", self._settings.retry_after_s)
        self.counts.change_total(1)
        return None

    def close(self) -> None:
        """Undo `open`."""
        self.counts.change_total(-1)

    def claim(self, address: str) -> ConnectRefused | None:
        """Count an opened connection for its address, too, unless that has too many or opens them too fast."""
        network = None if self._exempt(address) else network_of(address)
        if network is not None and self.counts.of(network) >= self._settings.connections_per_address_max:
            return ConnectRefused(429, "this address has too many connections", self._settings.retry_after_s)
        if (refused := self._spend(network)) is not None:
            return refused
        if network is not None:
            self.counts.change(network, 1)
        return None

    def release(self, address: str) -> None:
        """Undo `claim`."""
        if not self._exempt(address):
            self.counts.change(network_of(address), -1)

    def charge_stranger(self, address: str) -> None:
        """A connection of this address has ended, and its client never authenticated."""
        if self._exempt(address):
            return
        now, network = self._clock.monotonic(), network_of(address)
        cost_s = _STRANGER_COST / self._settings.connects_per_address_per_s
        owed_until = max(self.counts.full_at(network), now) + cost_s
        self.counts.set_full_at(network, min(owed_until, now + _DEBT_S_MAX), now)

    def _spend(self, network: str | None) -> ConnectRefused | None:
        """Take a token of the network and one of the node, or neither."""
        now = self._clock.monotonic()
        network_full_at = now
        if network is not None:
            wait_s, network_full_at = _take_token(
                self.counts.full_at(network), now, self._settings.connects_per_address_per_s
            )
            if wait_s > 0:
                return ConnectRefused(429, "this address opens connections too fast", math.ceil(wait_s))
        wait_s, total_full_at = _take_token(self.counts.total_full_at(), now, self._settings.connects_per_s)
        if wait_s > 0:
            return ConnectRefused(503, "connections to this node arrive too fast", math.ceil(wait_s))
        self.counts.set_total_full_at(total_full_at)
        if network is not None:
            self.counts.set_full_at(network, network_full_at, now)
        return None


def _take_token(full_at: float, now: float, per_s: float) -> tuple[float, float]:
    """Take one token of a bucket that holds one second's worth, and at least one."""
    return take_tokens(full_at, now, interval_s=1.0 / per_s, burst=max(1.0, per_s))
