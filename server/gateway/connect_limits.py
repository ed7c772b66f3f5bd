"""How many connections there may be and how fast they may come, for the node and for each address.

Rates are token buckets kept as one number each: the time at which the bucket will be full again (the generic cell
rate algorithm). A bucket that is full needs no entry, so the table holds only addresses of the last second or so,
and is bounded besides.
"""

import ipaddress
import math
from collections.abc import Callable

import msgspec

from server.clock import Clock
from server.config.settings import GatewaySettings

_ADDRESSES_MAX = 50_000
_ROUNDING_S = 1e-6


class Refused(msgspec.Struct, frozen=True):
    """Why a connection is not let in, and when to come again."""

    status: int
    reason: str
    retry_after_s: int


class ConnectLimits:
    """Counts of live connections and rates of new ones."""

    def __init__(self, settings: GatewaySettings, clock: Clock, exempt: Callable[[str], bool]) -> None:
        """`exempt(address)` says that an address has no limits of its own: a proxy's connections are other people's."""
        self._settings = settings
        self._clock = clock
        self._exempt = exempt
        self._count = 0
        self._counts: dict[str, int] = {}
        self._node_full_at = 0.0
        self._full_at: dict[str, float] = {}

    @property
    def count(self) -> int:
        """Live connections."""
        return self._count

    def open(self) -> Refused | None:
        """Count one more connection, unless the node is full."""
        if self._count >= self._settings.connections_max:
            return Refused(503, "this node has as many connections as it may", self._settings.retry_after_s)
        self._count += 1
        return None

    def close(self) -> None:
        """Count one less."""
        self._count -= 1
        assert self._count >= 0

    def claim(self, address: str) -> Refused | None:
        """Count an opened connection for its address too, unless that has too many or they come too fast."""
        key = None if self._exempt(address) else _key(address)
        if key is not None and self._counts.get(key, 0) >= self._settings.connections_per_address_max:
            return Refused(429, "this address has as many connections as it may", self._settings.retry_after_s)
        if (refused := self._spend(key)) is not None:
            return refused
        if key is not None:
            self._counts[key] = self._counts.get(key, 0) + 1
        return None

    def release(self, address: str) -> None:
        """Undo `claim`."""
        if self._exempt(address):
            return
        key = _key(address)
        if self._counts[key] > 1:
            self._counts[key] -= 1
        else:
            del self._counts[key]

    def _spend(self, key: str | None) -> Refused | None:
        """Take a token of the address and one of the node, or neither."""
        now = self._clock.monotonic()
        address_wait_s, address_full_at = 0.0, now
        if key is not None:
            address_wait_s, address_full_at = _take(
                self._full_at.get(key, 0.0), self._settings.connects_per_address_per_s, now
            )
        if address_wait_s > 0:
            return Refused(429, "connections of this address come too fast", math.ceil(address_wait_s))
        node_wait_s, node_full_at = _take(self._node_full_at, self._settings.connects_per_s, now)
        if node_wait_s > 0:
            return Refused(503, "connections come too fast for this node", math.ceil(node_wait_s))
        self._node_full_at = node_full_at
        if key is not None:
            self._make_room(now)
            self._full_at[key] = address_full_at
        return None

    def _make_room(self, now: float) -> None:
        if len(self._full_at) < _ADDRESSES_MAX:
            return
        self._full_at = {key: at for key, at in self._full_at.items() if at > now}
        while len(self._full_at) >= _ADDRESSES_MAX:  # then the node's own rate is what holds
            del self._full_at[next(iter(self._full_at))]


def _take(full_at: float, per_s: float, now: float) -> tuple[float, float]:
    """Take one token: seconds to wait first (0 if none), and when the bucket will be full again. A bucket holds 1 s."""
    full_at = max(full_at, now) + 1 / per_s
    wait_s = full_at - now - max(1.0, 1 / per_s)
    return wait_s if wait_s > _ROUNDING_S else 0.0, full_at


def _key(address: str) -> str:
    """What counts as one address: in IPv6 a subscriber has a whole /64."""
    if ":" not in address:
        return address
    return str(ipaddress.IPv6Network((address.partition("%")[0], 64), strict=False))
