"""How fast devices and principals may go. Rates belong to them, not to their connections.

A device that reconnects goes on with the bucket that it left. All devices of a principal together have a bucket that is
`principal_rate_factor` times as large, so that many devices do not multiply a rate. The tables are this node's own;
`shared_rates.py` keeps those of several nodes in step.
"""

from __future__ import annotations

from collections.abc import Collection

from protocol.limits import BAD_MESSAGE_FORGIVEN_S, BAD_MESSAGES_MAX
from server.config.settings import SessionSettings
from server.token_bucket import ROUNDING_S

KEYS_MAX = 200_000
_SHARED_FROM = 0.25
"""Of a bucket that is less empty the other nodes are told when its device leaves: most never empty theirs so far."""
_OWED_S_MAX = 60.0
"""Nodes that give from one bucket at once give more than it holds. What they gave is waited for, up to this time beside
that of an empty bucket: with less, N nodes would give N times the rate for ever."""
_OWED_KEYS_MAX = 10_000


class SharedRate:
    """One rate: a token bucket of each device, and one of each principal, `factor` times as fast and as large.

    A bucket is the time at which it will be full, as in `server.token_bucket`; here two are judged at once, for every
    send. Both fill in `burst / per_s` seconds, so a bucket that nobody touched for so long is full and needs no entry.
    Entries are kept in two generations; each lasts at least that long, and the older one is dropped as a whole. With
    `keys_max` entries the generation changes early: then the buckets that were not used for the longest time count as
    full. What is owed to other nodes lasts longer: it is taken into each new generation. Times are monotonic seconds.
    """

    __slots__ = (
        "_ends_at",
        "_fills_in_s",
        "_interval_s",
        "_keys_max",
        "_new",
        "_old",
        "_owed",
        "_share",
        "_untold",
        "empty_s_max",
        "paced",
        "taken",
    )

    def __init__(
        self, per_s: float, burst: float, factor: float, *, keys_max: int = KEYS_MAX, shared: bool = False
    ) -> None:
        """`shared`: what is taken is noted for the other nodes, so `pop_untold` must be called now and then."""
        self._interval_s = 1.0 / per_s
        self._fills_in_s = burst / per_s
        self._share = 1.0 / factor
        self._keys_max = keys_max
        self._new: dict[bytes, float] = {}
        self._old: dict[bytes, float] = {}
        self._ends_at = 0.0
        self._owed: dict[bytes, float] = {}
        self._untold: dict[bytes, float] | None = {} if shared else None
        self.empty_s_max = self._fills_in_s + _OWED_S_MAX
        """A bucket takes no longer to fill, however much nodes have given of it."""
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
            self._old, self._new = new, self._take_owed(now)
            self._ends_at = now + fills_in_s
        self._new[device] = of_device
        self._new[principal] = of_principal
        if (untold := self._untold) is not None:
            untold[device] = untold.get(device, 0.0) + taken_s
            untold[principal] = untold.get(principal, 0.0) + taken_s * self._share
        return 0.0

    def pop_untold(self, now: float, leaving: Collection[bytes] = ()) -> list[tuple[bytes, float]]:
        """What was taken and not told, in seconds of filling, of the buckets that others must know of.

        Those are of who is `leaving`, and all that are not nearly full. What has been filled again is left out.
        """
        assert self._untold is not None
        shared_from_s = self._fills_in_s * _SHARED_FROM
        told, kept = [], {}
        for key, taken_s in self._untold.items():
            left_s = self._find_full_at(key, now) - now
            if left_s >= shared_from_s or (key in leaving and left_s > 0):
                told.append((key, min(taken_s, left_s)))
            elif left_s > 0:
                kept[key] = min(taken_s, left_s)
        self._untold = kept
        return told

    def empty_to(self, key: bytes, fills_in_s: float, now: float) -> None:
        """Let a bucket be at least so empty that it takes these seconds to fill."""
        full_at = now + min(fills_in_s, self.empty_s_max)
        if full_at > self._find_full_at(key, now):
            self._new[key] = full_at
            if fills_in_s > self._fills_in_s and len(self._owed) < _OWED_KEYS_MAX:
                self._owed[key] = full_at

    def _take_owed(self, now: float) -> dict[bytes, float]:
        """The first entries of a generation: those that would be needed for longer than the one before lasts."""
        kept_until = now + self._fills_in_s
        self._owed = {key: at for key in self._owed if (at := self._find_full_at(key, now)) > kept_until}
        return dict(self._owed)

    def _find_full_at(self, key: bytes, now: float) -> float:
        return self._new.get(key) or self._old.get(key, now)


class SessionRates:
    """The rates of all sessions of a node; `shared` with other nodes."""

    def __init__(self, settings: SessionSettings, *, shared: bool = False) -> None:
        factor = settings.principal_rate_factor
        self.sends = SharedRate(settings.sends_per_s, settings.sends_burst, factor, shared=shared)
        self.commands = SharedRate(settings.commands_per_s, settings.commands_burst, factor, shared=shared)
        self.bad_messages = SharedRate(1.0 / BAD_MESSAGE_FORGIVEN_S, BAD_MESSAGES_MAX, factor, shared=shared)
