"""What commerce has of people, put together over one key store."""

from __future__ import annotations

from dataclasses import dataclass

from server.commerce.personal.addresses import Addresses
from server.commerce.personal.erasures import Erasures
from server.commerce.personal.held_keys import PersonKeys
from server.commerce.personal.personal_upkeep import PersonalUpkeep
from server.commerce.personal.sealed_items import SealedItems
from server.commerce.step_keys import StepKeys
from storage.commerce.personal_records import PersonalRecords


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonalParts:
    """The parts that the resources serve, and their work in the background."""

    addresses: Addresses
    erasures: Erasures
    upkeep: PersonalUpkeep


def make_personal(records: PersonalRecords, person_keys: PersonKeys, keys: StepKeys) -> PersonalParts:
    """The parts over records and keys."""
    items = SealedItems(records, person_keys, keys)
    return PersonalParts(
        addresses=Addresses(items),
        erasures=Erasures(records, person_keys, keys),
        upkeep=PersonalUpkeep(records, person_keys),
    )
