"""What commerce has of people, put together over one key store."""

from __future__ import annotations

from dataclasses import dataclass

from server.commerce.payment_steps import PaymentSteps
from server.commerce.personal.addresses import Addresses
from server.commerce.personal.erasures import Erasures
from server.commerce.personal.exports import Exports, ExportSources
from server.commerce.personal.held_keys import PersonKeys
from server.commerce.personal.legal_records import LegalRecords
from server.commerce.personal.personal_upkeep import PersonalUpkeep
from server.commerce.personal.sealed_items import SealedItems
from server.commerce.step_keys import StepKeys
from server.commerce.wallet_keeping import WalletKeeping
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
    stores: PersonalStores, keys: StepKeys, *, wallets: WalletKeeping, payments: PaymentSteps
) -> PersonalParts:
    """The parts; exports read wallets and payments."""
    items = SealedItems(stores.records, stores.person_keys, keys)
    addresses, legal = Addresses(items), LegalRecords(items)
    sources = ExportSources(wallets, payments, addresses, legal)
    exports = Exports(stores.exports, stores.person_keys, keys, sources)
    return PersonalParts(
        addresses=addresses,
        legal=legal,
        exports=exports,
        erasures=Erasures(stores.records, stores.person_keys, keys),
        upkeep=PersonalUpkeep(stores.records, stores.exports, stores.person_keys, exports),
    )
