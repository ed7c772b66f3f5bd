"""Puts the commerce service together: the one place that knows all of its parts."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass

from server.clock import Clock
from server.commerce.approval_proofs import ApprovalProofs
from server.commerce.authentication import Authentication
from server.commerce.chains import Chains
from server.commerce.charging import Charging
from server.commerce.commerce_edge import CommerceEdge
from server.commerce.gateways.configured_gateways import ConfiguredGateways
from server.commerce.gateways.webhook_keeping import WebhookKeeping
from server.commerce.payment_steps import PaymentSteps
from server.commerce.personal.addresses import Addresses
from server.commerce.personal.held_keys import PersonKeys
from server.commerce.personal.legal_records import LegalRecords
from server.commerce.personal.personal_parts import PersonalParts, PersonalStores, make_personal
from server.commerce.personal.sealed_items import SealedItems
from server.commerce.platform_terms import PlatformTerms
from server.commerce.reconciling import Reconciling
from server.commerce.request_tokens import RequestTokens
from server.commerce.resources.commerce_app import create_commerce
from server.commerce.resources.commerce_parts import CommerceParts
from server.commerce.resources.export_sources import ExportSources
from server.commerce.shops.order_addresses import OrderAddresses
from server.commerce.shops.shop_parts import make_shops
from server.commerce.step_keys import StepKeys
from server.commerce.step_ups import StepUps
from server.commerce.wallet_keeping import WalletKeeping
from server.config.settings import Config
from server.identity.jwks import FetchDocument, KeySet
from server.identity.rates import MemoryRateLimiter
from server.node.commerce_settings import find_key_folders, load_personal_key, read_wallet_terms
from server.startup_error import StartupError
from storage.commerce.api_key_store import ApiKeyStore
from storage.commerce.gateway_intents import GatewayIntents
from storage.commerce.ledger import Ledger
from storage.commerce.personal_exports import PersonalExports
from storage.commerce.personal_records import PersonalRecords
from storage.commerce.shops.businesses import Businesses
from storage.commerce.spent_step_ups import SpentStepUps
from storage.commerce.terms import Terms
from storage.person_keys.person_key_store import PersonKeysError, PersonKeyStore
from storage.postgres.pool import Pool
from storage.postgres.write_connections import WriteConnections

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Commerce:
    """The app, the ledger below it, what is personal, and what it does with gateways."""

    app: CommerceEdge
    ledger: Ledger
    personal: PersonalParts
    intents: GatewayIntents
    gateways: ConfiguredGateways
    webhooks: WebhookKeeping


def make_commerce(
    config: Config,
    *,
    writes: WriteConnections,
    reads: Pool,
    fetch: FetchDocument,
    clock: Clock,
    digest_key: bytes,
    sealing_key: bytes,
    person_keys: PersonKeys,
    gateways: ConfiguredGateways,
) -> Commerce:
    """The service over a migrated database; raises StartupError."""
    settings = config.commerce_service
    wallet_terms = read_wallet_terms(settings)
    ledger, terms, keys = Ledger(writes, reads), Terms(writes, reads), StepKeys(digest_key)
    chat_keys = KeySet(settings.jwks_url, fetch, clock, setting="commerce_service.jwks_url")
    tokens = RequestTokens(chat_keys, clock, issuer=config.identity.issuer, audience=config.identity.audience)
    step_ups = None
    if settings.step_up_jwks_url:
        platform_keys = KeySet(settings.step_up_jwks_url, fetch, clock, setting="commerce_service.step_up_jwks_url")
        step_ups = StepUps(platform_keys, SpentStepUps(writes), clock)
    businesses = Businesses(writes, reads)
    intents = GatewayIntents(writes, reads)
    proofs = ApprovalProofs(
        terms, step_ups, reference=settings.reference_currency, above_minor=settings.proof_above_minor
    )
    webhooks = WebhookKeeping(gateways, intents, clock, sealing_key=sealing_key)
    wallets = WalletKeeping(ledger, terms, keys, wallet_terms)
    payments = PaymentSteps(ledger, keys, proofs, intents)
    stores = PersonalStores(
        records=PersonalRecords(writes, reads), exports=PersonalExports(writes, reads), person_keys=person_keys
    )
    items = SealedItems(stores.records, person_keys, keys)
    addresses, legal = Addresses(items), LegalRecords(items)
    shops = make_shops(ledger, businesses, keys, OrderAddresses(addresses, legal), writes=writes, reads=reads)
    charging = Charging(ledger, intents, keys, proofs, gateways)
    sources = ExportSources(wallets, payments, charging, (addresses, legal), (shops.orders, shops.businesses))
    personal = make_personal(stores, keys, (addresses, legal), sources.read)
    parts = CommerceParts(
        authentication=Authentication(
            tokens,
            ApiKeyStore(reads),
            businesses,
            MemoryRateLimiter(clock),
            per_caller_s=settings.requests_per_caller_per_s,
            per_service_s=settings.requests_per_service_per_s,
        ),
        payments=payments,
        wallets=wallets,
        chains=Chains(ledger, terms, keys, quote_life_s=settings.quote_life_s),
        terms=PlatformTerms(terms, keys, reference=settings.reference_currency),
        personal=personal,
        shops=shops,
        charging=charging,
        reconciling=Reconciling(intents, keys, gateways),
        webhooks=webhooks,
    )
    app = create_commerce(parts, body_bytes_max=settings.body_bytes_max)
    edge = CommerceEdge(app, requests_max=settings.requests_max)
    return Commerce(edge, ledger, personal, intents, gateways, webhooks)


@contextlib.asynccontextmanager
async def opened_person_keys(config: Config, records: PersonalRecords) -> AsyncIterator[PersonKeys]:
    """The keys of people, the same in both folders and in the database. Raises StartupError."""
    master, folders = load_personal_key(config), find_key_folders(config)
    expected = await records.read_store()
    try:
        store = await asyncio.to_thread(PersonKeyStore.open, folders, master, expected=expected)
    except PersonKeysError as error:
        raise StartupError(str(error)) from error
    try:
        if store.rebuilt:
            _log.warning("one folder of the keys of personal data lacked %d: it has them again", store.rebuilt)
        keys = PersonKeys(store, records)
        await keys.reconcile()
        yield keys
    finally:
        await asyncio.to_thread(store.close)
