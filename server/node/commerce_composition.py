"""Puts the commerce service together: the one place that knows all of its parts."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from protocol.commerce.currencies import is_known
from server.clock import Clock
from server.commerce.approval_proofs import ApprovalProofs
from server.commerce.authentication import Authentication
from server.commerce.balance_import import BalanceImport, Say
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
from server.commerce.wallet_keeping import WalletKeeping, WalletTerms, is_timezone
from server.config.payment_settings import CommerceServiceSettings
from server.config.setting_types import Secret
from server.config.settings import Config
from server.identity.jwks import FetchDocument, KeySet
from server.identity.key_files import read_or_create
from server.identity.rates import MemoryRateLimiter
from server.identity.vault import KEY_BYTES, is_guessable, new_key
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

KEY_FILE = "digest.key"
PERSONAL_KEY_FILE = "personal.key"
SEALING_KEY_FILE = "sealing.key"
KEY_FOLDERS = ("person-keys", "person-keys-again")
"""In the data folder, where no others are set."""


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
    _check_terms(settings)
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
    wallets = WalletKeeping(ledger, terms, keys, _begins_with(settings))
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


def load_digest_key(config: Config) -> bytes:
    """The key of digests of requests; in development it is made in the data folder. Raises StartupError."""
    return _load_key(config, "digest_key", config.commerce_service.digest_key, KEY_FILE)


def load_sealing_key(config: Config) -> bytes:
    """The key of the bodies of webhooks, likewise. Raises StartupError."""
    return _load_key(config, "sealing_key", config.commerce_service.sealing_key, SEALING_KEY_FILE)


@contextlib.asynccontextmanager
async def opened_person_keys(config: Config, records: PersonalRecords) -> AsyncIterator[PersonKeys]:
    """The keys of people, the same in both folders and in the database. Raises StartupError."""
    settings = config.commerce_service
    master = _load_key(config, "personal_key", settings.personal_key, PERSONAL_KEY_FILE)
    expected = await records.read_store()
    try:
        store = await asyncio.to_thread(PersonKeyStore.open, _key_folders(config), master, expected=expected)
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


def _key_folders(config: Config) -> tuple[Path, Path]:
    settings = config.commerce_service
    chosen = (settings.key_dir, settings.second_key_dir)
    if config.server.mode == "production" and None in chosen:
        raise StartupError(
            "commerce_service.key_dir and second_key_dir are required in production: set folders on two disks."
        )
    one, other = (folder or settings.data_dir / name for folder, name in zip(chosen, KEY_FOLDERS, strict=True))
    if one.resolve() == other.resolve():
        raise StartupError("commerce_service.second_key_dir: set another folder than commerce_service.key_dir.")
    return one, other


def _load_key(config: Config, name: str, secret: Secret, file: str) -> bytes:
    text = secret.reveal()
    if not text and config.server.mode == "production":
        raise StartupError(
            f"commerce_service.{name} is required in production, the same for ever: set commerce_service.{name}_file."
        )
    text = text or read_or_create(config.commerce_service.data_dir / "keys" / file, new_key)
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES or is_guessable(key):
        raise StartupError(f"commerce_service.{name}: {KEY_BYTES} random bytes in base64.")
    return key


def make_import(config: Config, writes: WriteConnections, reads: Pool, tenant: int, say: Say) -> BalanceImport:
    """Imports of opening balances over a migrated database; raises StartupError."""
    settings = config.commerce_service
    _check_terms(settings)
    ledger, terms, keys = Ledger(writes, reads), Terms(writes, reads), StepKeys(load_digest_key(config))
    return BalanceImport(ledger, WalletKeeping(ledger, terms, keys, _begins_with(settings)), keys, tenant, say)


def _begins_with(settings: CommerceServiceSettings) -> WalletTerms:
    return WalletTerms(
        timezone=settings.timezone,
        reference_currency=settings.reference_currency,
        day_max=settings.day_max_minor,
        month_max=settings.month_max_minor,
    )


def _check_terms(settings: CommerceServiceSettings) -> None:
    if not is_known(settings.reference_currency):
        raise StartupError("commerce_service.reference_currency: an unknown currency; set a code of ISO 4217.")
    if not is_timezone(settings.timezone):
        raise StartupError("commerce_service.timezone: there is no such time zone; set one such as Asia/Bangkok.")
