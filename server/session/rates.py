"""How fast devices and principals may go. Rates belong to them, not to their connections.

A device that reconnects goes on with the bucket that it left. All devices of a principal together have a bucket that is
`principal_rate_factor` times as large, so that many devices do not multiply a rate. The tables are this node's own.
"""

from __future__ import annotations

from protocol.limits import BAD_MESSAGE_FORGIVEN_S, BAD_MESSAGES_MAX
from server.config.settings import SessionSettings
from server.token_bucket import take_tokens

KEYS_MAX = 100_000


class BucketTable:
    """The token buckets of one rate by key, for those that are not full. Times are monotonic seconds.

    A bucket that nobody touches for `burst / per_s` seconds is full, so it needs no entry. Entries are kept in two
    generations; each lasts at least that long, and the older one is dropped as a whole. With `keys_max` entries the
    generation changes early: then the buckets that were not used for the longest time count as full.
    """

    __slots__ = ("_burst", "_ends_at", "_interval_s", "_keys_max", "_new", "_old")

    def __init__(self, per_s: float, burst: float, *, keys_max: int = KEYS_MAX) -> None:
        self._interval_s = 1.0 / per_s
        self._burst = burst
        self._keys_max = keys_max
        self._new: dict[bytes, float] = {}
        self._old: dict[bytes, float] = {}
        self._ends_at = 0.0

    def __len__(self) -> int:
        return len(self._new) + len(self._old)

    def judge(self, key: bytes, now: float, cost: float = 1.0) -> tuple[float, float]:
        """The wait in seconds, and what `keep` takes if the wait is 0. Takes nothing yet."""
        full_at = self._new.get(key)
        if full_at is None:
            full_at = self._old.get(key, now)
        return take_tokens(full_at, now, interval_s=self._interval_s, burst=self._burst, cost=cost)

    def keep(self, key: bytes, full_at: float, now: float) -> None:
        """Take the tokens: the bucket is full again at `full_at`, as `judge` returned it."""
        if now >= self._ends_at or 2 * len(self._new) >= self._keys_max:
            self._old, self._new = self._new, {}
            self._ends_at = now + self._burst * self._interval_s
        self._new[key] = full_at


class SharedRate:
    """A rate of each device, and one of all devices of a principal together."""

    __slots__ = ("_of_devices", "_of_principals")

    def __init__(self, per_s: float, burst: float, factor: float, *, keys_max: int = KEYS_MAX) -> None:
        self._of_devices = BucketTable(per_s, burst, keys_max=keys_max)
        self._of_principals = BucketTable(per_s * factor, burst * factor, keys_max=keys_max)

    def spend(self, device: bytes, principal: bytes, now: float, cost: float = 1.0) -> float:
        """Take `cost` tokens of both buckets; 0, or the seconds to wait if nothing was taken."""
        wait_s, of_device = self._of_devices.judge(device, now, cost)
        more_s, of_principal = self._of_principals.judge(principal, now, cost)
        if wait_s or more_s:
            return max(wait_s, more_s)
        self._of_devices.keep(device, of_device, now)
        self._of_principals.keep(principal, of_principal, now)
        return 0.0


class SessionRates:
    """The rates of all sessions of a node."""

    def __init__(self, settings: SessionSettings) -> None:
        factor = settings.principal_rate_factor
        self.sends = SharedRate(settings.sends_per_s, settings.sends_burst, factor)
        self.commands = SharedRate(settings.commands_per_s, settings.commands_burst, factor)
        self._bad_messages = BucketTable(1.0 / BAD_MESSAGE_FORGIVEN_S, BAD_MESSAGES_MAX)

    def forgives(self, device: bytes, now: float) -> bool:
        """Count one more bad message of a device; False if they are too many."""
        wait_s, full_at = self._bad_messages.judge(device, now)
        if wait_s:
            return False
        self._bad_messages.keep(device, full_at, now)
        return True
