"""Faults of what keeps personal data private, each with the count that must not be 0.

A fault is some lines that run in the service first.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Leak:
    """What is broken, and the count that must say so."""

    count: str
    prelude: str


BREAKS = {
    "items are stored in clear": Leak(
        "found_clear",
        """
import msgspec
from server.commerce.personal import exports, sealed_items
sealed_items.seal = exports.seal = lambda key, place, value: msgspec.json.encode(value)
sealed_items.unseal = exports.unseal = lambda key, place, sealed, form: msgspec.json.decode(sealed, type=form)
""",
    ),
    "an address is logged": Leak(
        "found_clear",
        """
import logging
from server.commerce.personal.addresses import Addresses
create = Addresses.create
async def loud(self, request, address):
    logging.getLogger("server").warning("an address: %r", address)
    return await create(self, request, address)
Addresses.create = loud
""",
    ),
    "an erased key is only listed": Leak(
        "found_after_erasure",
        """
from storage.person_keys.key_copy import KeyCopy
KeyCopy.erase = lambda self, ids: 0
""",
    ),
    "the list is not applied to an older copy": Leak(
        "found_after_erasure",
        """
from storage.person_keys.person_key_store import PersonKeyStore
def level(self):
    one, other = self._copies
    self.rebuilt = one.take_over(other) + other.take_over(one)
PersonKeyStore._level = level
PersonKeyStore.list_erased = lambda self: []
""",
    ),
    "an erasure leaves the profile": Leak(
        "found_after_erasure",
        """
from storage.commerce.schema import MONEY
render = MONEY.render
def without(template):
    return render(template.replace("PERFORM erase_personal_key(k.key_id)", "PERFORM 1"))
MONEY.render = without
""",
    ),
    "the identity is under the profile key": Leak(
        "legal_lost",
        """
from server.commerce.personal.sealed_items import KEY_OF
from storage.commerce.personal_rows import ItemKind, KeyKind
KEY_OF[ItemKind.IDENTITY] = KeyKind.PROFILE
""",
    ),
    "an erasure takes all keys": Leak(
        "legal_lost",
        """
from storage.commerce.schema import MONEY
render = MONEY.render
def without(template):
    return render(template.replace("AND k.key_kind = ${KeyKind.PROFILE} AND k.erased_us", "AND k.erased_us"))
MONEY.render = without
""",
    ),
}
