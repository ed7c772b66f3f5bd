"""Who asks: a person by a token of the chat, or a platform service by its API key; and for whom they act."""

from __future__ import annotations

import msgspec

from protocol.errors import ErrorCode
from server.refusals import RequestRefusedError
from storage.commerce.api_key_store import Right


class Asker(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks. `rights` are None for the token of a person, bot or business, which acts for its principal alone."""

    tenant: int
    principal: bytes
    device: bytes | None = None
    device_key: bytes | None = None
    businesses: frozenset[bytes] = frozenset()
    rights: Right | None = None

    @property
    def is_service(self) -> bool:
        """Whether it is a platform service: it approves and sends for nobody."""
        return self.rights is not None

    def acts_for(self, party: bytes) -> bool:
        """Whether the money of this party is theirs to receive, and to give back."""
        return party in self.businesses or (party == self.principal and not self.is_service)

    def check_right(self, right: Right) -> None:
        """Raise RequestRefusedError unless the API key has this right; who has a token needs none for payments."""
        if self.rights is None and right is Right.PAYMENTS:
            return
        if self.rights is None or right not in self.rights:
            raise RequestRefusedError(ErrorCode.NOT_ALLOWED, f"an API key with the right {_name(right)} may do this")


class KeyedRequest(msgspec.Struct, frozen=True):
    """A POST: who asks, and their idempotency key."""

    asker: Asker
    key: str


def _name(right: Right) -> str:
    return str(right.name).lower()
