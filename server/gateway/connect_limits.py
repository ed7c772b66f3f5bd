"""How many connections may be open and how fast new ones may arrive, for the node and for each client address.

Rates are token buckets. A full bucket needs no entry, so the table of addresses holds those of the last second or so;
it has a bound of its own, too. A connection that ends as a stranger's counts as many: to connect costs the server more
than it costs a client.
"""

import math
from collections.abc import Callable

import msgspec

from server.clock import Clock
from server.config.settings import GatewaySettings
from server.networks import network_of
from server.token_bucket import take_tokens

_ADDRESSES_MAX = 50_000
_STRANGER_COST = 20
_DEBT_S_MAX = 2.0


class ConnectRefused(msgspec.Struct, frozen=True):
    """Why a connection is refused, and when to retry."""

    status: int
    reason: str
    retry_after_s: int


class ConnectLimits:
    """Counts open connections and limits the rate of new ones."""

    def __init__(self, settings: GatewaySettings, clock: Clock, exempt: Callable[[str], bool]) -> None:
        """`exempt(address)`: whether an address has no limits of its own; many clients share a proxy's address."""
        self._settings = settings
        self._clock = clock
        self._exempt = exempt
        self._count = 0
        self._counts: dict[str, int] = {}
        self._node_full_at = 0.0
        self._full_at: dict[str, float] = {}

    @property
    def count(self) -> int:
        """Open connections."""
        return self._count

    def open(self) -> ConnectRefused | None:
        """Count one more connection, unless the node is full."""
        if self._count >= self._settings.connections_max:
            return ConnectRefused(503, "this node has too many connections", self._settings.retry_after_s)
        self._count += 1
        return None

    def close(self) -> None:
        """Undo `open`."""
        self._count -= 1
        assert self._count >= 0

    def claim(self, address: str) -> ConnectRefused | None:
        """Count an opened connection for its address, too, unless that has too many or opens them too fast."""
        network = None if self._exempt(address) else network_of(address)
        if network is not None and self._counts.get(network, 0) >= self._settings.connections_per_address_max:
            return ConnectRefused(429, "this address has too many connections", self._settings.retry_after_s)
        if (refused := self._spend(network)) is not None:
            return refused
        if network is not None:
            self._counts[network] = self._counts.get(network, 0) + 1
        return None

    def release(self, address: str) -> None:
        """Undo `claim`."""
        if self._exempt(address):
            return
        network = network_of(address)
        if self._counts[network] > 1:
            self._counts[network] -= 1
        else:
            del self._counts[network]

    def charge_stranger(self, address: str) -> None:
        """A connection of this address has ended, and its client never authenticated."""
        if self._exempt(address):
            return
        now, network = self._clock.monotonic(), network_of(address)
        cost_s = _STRANGER_COST / self._settings.connects_per_address_per_s
        self._make_room(now)
        self._full_at[network] = min(max(self._full_at.get(network, now), now) + cost_s, now + _DEBT_S_MAX)

    def _spend(self, network: str | None) -> ConnectRefused | None:
        """Take a token of the network and one of the node, or neither."""
        now = self._clock.monotonic()
        network_full_at = now
        if network is not None:
            wait_s, network_full_at = _take_token(
                self._full_at.get(network, 0.0), now, self._settings.connects_per_address_per_s
            )
            if wait_s > 0:
                return ConnectRefused(429, "this address opens connections too fast", math.ceil(wait_s))
        wait_s, node_full_at = _take_token(self._node_full_at, now, self._settings.connects_per_s)
        if wait_s > 0:
            return ConnectRefused(503, "connections to this node arrive too fast", math.ceil(wait_s))
        self._node_full_at = node_full_at
        if network is not None:
            self._make_room(now)
            self._full_at[network] = network_full_at
        return None

    def _make_room(self, now: float) -> None:
        if len(self._full_at) < _ADDRESSES_MAX:
            return
        self._full_at = {network: at for network, at in self._full_at.items() if at > now}
        while len(self._full_at) >= _ADDRESSES_MAX:  # then only the node's own rate protects it
            del self._full_at[next(iter(self._full_at))]


def _take_token(full_at: float, now: float, per_s: float) -> tuple[float, float]:
    """Take one token of a bucket that holds one second's worth, and at least one."""
    return take_tokens(full_at, now, interval_s=1.0 / per_s, burst=max(1.0, per_s))
