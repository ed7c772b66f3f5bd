"""When the next connection is made, and when no other one helps: back-off, refused tokens, a device taken back."""

from __future__ import annotations

import random

from protocol.close_codes import Advice

BACKOFF_S_MAX = 30.0
TOKEN_REFUSALS_MAX = 4
"""After this many refused tokens in a row the client asks for a new sign-in."""
REPLACED_SOON_S = 30.0
"""A connection that is replaced before this age may have lost its device to an older one of this client, whose
`authenticate` and `sync` were still on the way when it was cut. A server ends a handshake long before."""
REPLACED_SOON_MAX = 3
"""So many times in a row the client takes its device back; then another client has it."""


class Reconnecting:
    """What the connections before say about the next one. Times are the caller's seconds."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._connected_at = 0.0
        self._attempts = self._token_refusals = self._replaced_soon = 0

    def connected(self, now: float) -> None:
        """A websocket is open."""
        self._connected_at = now

    def accepted(self) -> None:
        """The server took the token."""
        self._token_refusals = 0

    def live(self) -> None:
        """Catch-up has ended: the next back-off begins anew."""
        self._attempts = 0

    def backoff_s(self) -> float:
        """Full jitter: a random delay up to a bound that doubles."""
        bound = min(BACKOFF_S_MAX, 0.5 * 2.0 ** min(self._attempts, 10))
        self._attempts += 1
        return self._rng.uniform(0.0, bound)

    def token_refused_s(self) -> float | None:
        """The delay before a new token is tried; None after too many refusals in a row."""
        self._token_refusals += 1
        if self._token_refusals > TOKEN_REFUSALS_MAX:
            return None
        return self.backoff_s() if self._token_refusals > 1 else 0.0

    def weigh(self, advice: Advice, now: float) -> Advice:
        """Count a close with this advice, and give the one to follow.

        That is RECONNECT instead of STOP while the device may have gone to an older connection of this client.
        """
        if now - self._connected_at >= REPLACED_SOON_S:
            self._replaced_soon = 0
            return advice
        self._replaced_soon += advice is Advice.STOP
        return Advice.RECONNECT if advice is Advice.STOP and self._replaced_soon <= REPLACED_SOON_MAX else advice
