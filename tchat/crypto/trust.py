"""Whose identity a person trusts, as decided on any of their devices, and what a decision makes of a pin.

Invariants:

- The newest decision about a person counts. It names a master key: an older one, brought again, changes nothing.
- A verified master key is the only one that may be written to, whatever the server has shown to this device meanwhile.
- While an identity that the person has agreed to is not known here, nothing is sent to the one before it.
"""

from __future__ import annotations

import msgspec

from tchat.crypto.pins import PinnedLog, agree, verify


class Trust(msgspec.Struct, array_like=True, frozen=True):
    """A decision about an identity: its master key was compared (`verified`), or it was accepted without that."""

    at_ms: int
    """When it was made; later than every decision that its device knew."""
    generation: int
    master: bytes
    verified: bool

    def is_about(self, pin: PinnedLog) -> bool:
        """Whether the identity that is pinned is the one that the person decided for."""
        return pin.log.master == self.master

    def is_ahead_of(self, pin: PinnedLog) -> bool:
        """Whether the server has not shown this device the identity that the person decided for."""
        return self.generation > pin.newest.generation

    def doubts(self, pin: PinnedLog) -> bool:
        """Whether the server has shown this device another identity than the one that the person has verified."""
        return self.verified and not self.is_about(pin) and not self.is_ahead_of(pin)


def follow(pin: PinnedLog, trust: Trust) -> PinnedLog:
    """The pin of a device whose person has decided this."""
    if trust.verified and not (pin.verified and trust.is_about(pin)):
        return verify(pin, trust.master) or pin
    if not trust.verified and pin.held is not None and pin.held.master == trust.master:
        return agree(pin)
    return pin
