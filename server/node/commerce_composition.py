"""Puts the commerce service together: the one place that knows all of its parts."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from protocol.commerce.currencies import is_known
from server.clock import Clock
from server.commerce.approval_proofs import ApprovalProofs
from server.commerce.authentication import Authentication
from server.commerce.chains import Chains
from server.commerce.charging import Charging
from server.commerce.commerce_edge import CommerceEdge
from server.commerce.gateways.configured_gateways import ConfiguredGateways
from server.commerce.gateways.webhook_keeping import WebhookKeeping
from server.commerce.payment_steps import PaymentSteps
from server.commerce.platform_terms import PlatformTerms
from server.commerce.reconciling import Reconciling
from server.commerce.request_tokens import RequestTokens
from server.commerce.resources.commerce_app import create_commerce
from server.commerce.resources.commerce_parts import CommerceParts
from server.commerce.step_keys import StepKeys
from server.commerce.wallet_keeping import WalletKeeping, WalletTerms, is_timezone
from server.config.payment_settings import CommerceServiceSettings
from server.config.settings import Config
from server.identity.jwks import FetchDocument, KeySet
from server.identity.key_files import read_or_create
from server.identity.vault import KEY_BYTES, is_guessable, new_key
from server.startup_error import StartupError
from storage.commerce.api_key_store import ApiKeyStore
from storage.commerce.gateway_intents import GatewayIntents
from storage.commerce.ledger import Ledger
from storage.commerce.terms import Terms
from storage.postgres.pool import Pool
from storage.postgres.write_connections import WriteConnections

KEY_FILE = "digest.key"
SEALING_KEY_FILE = "sealing.key"


@dataclass(frozen=True, slots=True)
class Commerce:
    """The app, the ledger below it, and what it does with gateways."""

    app: CommerceEdge
    ledger: Ledger
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
    gateways: ConfiguredGateways,
) -> Commerce:
    """The service over a migrated database; raises StartupError."""
    settings = config.commerce_service
    _check_terms(settings)
    ledger, terms, keys = Ledger(writes, reads), Terms(writes, reads), StepKeys(digest_key)
    chat_keys = KeySet(settings.jwks_url, fetch, clock, setting="commerce_service.jwks_url")
    tokens = RequestTokens(chat_keys, clock, issuer=config.identity.issuer, audience=config.identity.audience)
    begins_with = WalletTerms(
        timezone=settings.timezone,
        reference_currency=settings.reference_currency,
        day_max=settings.day_max_minor,
        month_max=settings.month_max_minor,
    )
    intents = GatewayIntents(writes, reads)
    proofs = ApprovalProofs(terms, above_minor=settings.proof_above_minor)
    webhooks = WebhookKeeping(gateways, intents, clock, sealing_key=sealing_key)
    parts = CommerceParts(
        authentication=Authentication(tokens, ApiKeyStore(reads)),
        payments=PaymentSteps(ledger, keys, proofs, intents),
        wallets=WalletKeeping(ledger, terms, keys, begins_with),
        chains=Chains(ledger, terms, keys, quote_life_s=settings.quote_life_s),
        terms=PlatformTerms(terms, keys),
        charging=Charging(ledger, intents, keys, proofs, gateways),
        reconciling=Reconciling(intents, keys, gateways),
        webhooks=webhooks,
    )
    app = create_commerce(parts, body_bytes_max=settings.body_bytes_max)
    return Commerce(CommerceEdge(app, requests_max=settings.requests_max), ledger, intents, gateways, webhooks)


def load_digest_key(config: Config) -> bytes:
    """The key of digests of requests; in development it is made in the data folder. Raises StartupError."""
    return _load_key(config, "digest_key", config.commerce_service.digest_key.reveal(), KEY_FILE)


def load_sealing_key(config: Config) -> bytes:
    """The key of the bodies of webhooks, likewise. Raises StartupError."""
    return _load_key(config, "sealing_key", config.commerce_service.sealing_key.reveal(), SEALING_KEY_FILE)


def _load_key(config: Config, name: str, text: str, file: str) -> bytes:
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


def _check_terms(settings: CommerceServiceSettings) -> None:
    if not is_known(settings.reference_currency):
        raise StartupError("commerce_service.reference_currency: an unknown currency; set a code of ISO 4217.")
    if not is_timezone(settings.timezone):
        raise StartupError("commerce_service.timezone: there is no such time zone; set one such as Asia/Bangkok.")
