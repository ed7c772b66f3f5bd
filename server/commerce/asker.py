"""Who asks: a person by a token of the chat, or a platform service by its API key; and for whom they act."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from protocol.commerce.shop_terms import RIGHTS_OF, StaffRight, StaffRole
from protocol.errors import ErrorCode
from server.refusals import RequestRefusedError
from storage.commerce.api_key_store import Right


class Asker(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks. `rights` are None for the token of a person, bot or business.

    `direct`: the chat has signed the token without judging what it is for, so it requests and sends no payment. It acts
    for its principal, and for the businesses in which it has one of the `roles`, as far as that allows.
    """

    tenant: int
    principal: bytes
    device: bytes | None = None
    device_key: bytes | None = None
    businesses: frozenset[bytes] = frozenset()
    rights: Right | None = None
    direct: bool = False
    roles: Mapping[bytes, StaffRole] = {}

    @property
    def is_service(self) -> bool:
        """Whether it is a platform service: it approves and sends for nobody."""
        return self.rights is not None

    def acts_for(self, party: bytes) -> bool:
        """Whether the money of this party is theirs to receive, and to give back."""
        return party in self.businesses or (not self.is_service and self.may(party, StaffRight.MONEY))

    def is_of(self, business: bytes) -> bool:
        """Whether they belong to a business, whatever they may do there."""
        if self.rights is not None:
            return business in self.businesses or Right.ADMIN in self.rights
        return business == self.principal or business in self.roles

    def may(self, business: bytes, right: StaffRight) -> bool:
        """Whether they have this right in a business. An API key names no staff, unless it is an admin's."""
        if self.rights is not None:
            own = business in self.businesses and Right.SHOPS in self.rights and right is not StaffRight.STAFF
            return own or Right.ADMIN in self.rights
        role = self.roles.get(business)
        return business == self.principal or (role is not None and right in RIGHTS_OF[role])

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
