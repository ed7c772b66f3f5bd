"""What commerce has of people, put together over one key store."""

from __future__ import annotations

from dataclasses import dataclass

from server.commerce.personal.addresses import Addresses
from server.commerce.personal.erasures import Erasures
from server.commerce.personal.exports import Exports, ReadableParts
from server.commerce.personal.held_keys import PersonKeys
from server.commerce.personal.legal_records import LegalRecords
from server.commerce.personal.personal_upkeep import PersonalUpkeep
from server.commerce.step_keys import StepKeys
from storage.commerce.personal_exports import PersonalExports
from storage.commerce.personal_records import PersonalRecords


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonalParts:
    """The parts that the resources serve, and their work in the background."""

    addresses: Addresses
    legal: LegalRecords
    exports: Exports
    erasures: Erasures
    upkeep: PersonalUpkeep


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonalStores:
    """Where it is stored."""

    records: PersonalRecords
    exports: PersonalExports
    person_keys: PersonKeys


def make_personal(
    stores: PersonalStores, keys: StepKeys, records: tuple[Addresses, LegalRecords], readable: ReadableParts
) -> PersonalParts:
    """The parts over the items of people; exports have what is `readable`."""
    addresses, legal = records
    exports = Exports(stores.exports, stores.person_keys, keys, readable)
    return PersonalParts(
        addresses=addresses,
        legal=legal,
        exports=exports,
        erasures=Erasures(stores.records, stores.person_keys, keys),
        upkeep=PersonalUpkeep(stores.records, stores.exports, stores.person_keys, exports),
    )
