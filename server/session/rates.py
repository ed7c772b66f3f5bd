"""How fast devices and principals may go. Rates belong to them, not to their connections.

A device that reconnects goes on with the bucket that it left. All devices of a principal together have a bucket that is
`principal_rate_factor` times as large, so that many devices do not multiply a rate. The tables are this node's own.
"""

from __future__ import annotations

from protocol.limits import BAD_MESSAGE_FORGIVEN_S, BAD_MESSAGES_MAX
from server.config.settings import SessionSettings
from server.token_bucket import ROUNDING_S

KEYS_MAX = 200_000


class SharedRate:
    """One rate: a token bucket of each device, and one of each principal, `factor` times as fast and as large.

    A bucket is the time at which it will be full, as in `server.token_bucket`; here two are judged at once, for every
    send. Both fill in `burst / per_s` seconds, so a bucket that nobody touched for so long is full and needs no entry.
    Entries are kept in two generations; each lasts at least that long, and the older one is dropped as a whole. With
    `keys_max` entries the generation changes early: then the buckets that were not used for the longest time count as
    full. Times are monotonic seconds.
    """

    __slots__ = ("_ends_at", "_fills_in_s", "_interval_s", "_keys_max", "_new", "_old", "_share", "paced", "taken")

    def __init__(self, per_s: float, burst: float, factor: float, *, keys_max: int = KEYS_MAX) -> None:
        self._interval_s = 1.0 / per_s
        self._fills_in_s = burst / per_s
        self._share = 1.0 / factor
        self._keys_max = keys_max
        self._new: dict[bytes, float] = {}
        self._old: dict[bytes, float] = {}
        self._ends_at = 0.0
        self.taken = 0
        """Times that tokens were taken."""
        self.paced = 0
        """Times that there were too few."""

    def __len__(self) -> int:
        return len(self._new) + len(self._old)

    def spend(self, device: bytes, principal: bytes, now: float, cost: float = 1.0) -> float:
        """Take `cost` tokens of both buckets, or a full bucket if that is less.

        Returns 0, or the seconds to wait if nothing was taken.
        """
        new, old, fills_in_s = self._new, self._old, self._fills_in_s
        taken_s = min(cost * self._interval_s, fills_in_s)
        of_device = new.get(device) or old.get(device, now)
        of_device = max(now, of_device) + taken_s
        of_principal = new.get(principal) or old.get(principal, now)
        of_principal = max(now, of_principal) + taken_s * self._share
        wait_s = max(of_principal, of_device) - now - fills_in_s
        if wait_s > ROUNDING_S:
            self.paced += 1
            return wait_s
        self.taken += 1
        if now >= self._ends_at or 2 * len(new) >= self._keys_max:
            self._old, self._new = new, {}
            self._ends_at = now + fills_in_s
        self._new[device] = of_device
        self._new[principal] = of_principal
        return 0.0


class SessionRates:
    """The rates of all sessions of a node."""

    def __init__(self, settings: SessionSettings) -> None:
        factor = settings.principal_rate_factor
        self.sends = SharedRate(settings.sends_per_s, settings.sends_burst, factor)
        self.commands = SharedRate(settings.commands_per_s, settings.commands_burst, factor)
        self.bad_messages = SharedRate(1.0 / BAD_MESSAGE_FORGIVEN_S, BAD_MESSAGES_MAX, factor)
