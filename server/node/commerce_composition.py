"""Puts the commerce service together: the one place that knows all of its parts."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from protocol.commerce.currencies import is_known
from server.clock import Clock
from server.commerce.approval_proofs import ApprovalProofs
from server.commerce.authentication import Authentication
from server.commerce.chains import Chains
from server.commerce.commerce_edge import CommerceEdge
from server.commerce.payment_steps import PaymentSteps
from server.commerce.platform_terms import PlatformTerms
from server.commerce.request_tokens import RequestTokens
from server.commerce.resources.commerce_app import create_commerce
from server.commerce.resources.commerce_parts import CommerceParts
from server.commerce.shops.shop_parts import make_shops
from server.commerce.step_keys import StepKeys
from server.commerce.wallet_keeping import WalletKeeping, WalletTerms, is_timezone
from server.config.payment_settings import CommerceServiceSettings
from server.config.settings import Config
from server.identity.jwks import FetchDocument, KeySet
from server.identity.key_files import read_or_create
from server.identity.vault import KEY_BYTES, is_guessable, new_key
from server.startup_error import StartupError
from storage.commerce.api_key_store import ApiKeyStore
from storage.commerce.ledger import Ledger
from storage.commerce.shops.businesses import Businesses
from storage.commerce.terms import Terms
from storage.postgres.pool import Pool
from storage.postgres.write_connections import WriteConnections

KEY_FILE = "digest.key"


@dataclass(frozen=True, slots=True)
class Commerce:
    """The app, and the ledger below it."""

    app: CommerceEdge
    ledger: Ledger


def make_commerce(
    config: Config,
    *,
    writes: WriteConnections,
    reads: Pool,
    fetch: FetchDocument,
    clock: Clock,
    digest_key: bytes,
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
    businesses = Businesses(writes, reads)
    parts = CommerceParts(
        authentication=Authentication(tokens, ApiKeyStore(reads), businesses),
        payments=PaymentSteps(ledger, keys, ApprovalProofs(terms, above_minor=settings.proof_above_minor)),
        wallets=WalletKeeping(ledger, terms, keys, begins_with),
        chains=Chains(ledger, terms, keys, quote_life_s=settings.quote_life_s),
        terms=PlatformTerms(terms, keys),
        shops=make_shops(ledger, businesses, keys, writes, reads),
    )
    app = create_commerce(parts, body_bytes_max=settings.body_bytes_max)
    return Commerce(CommerceEdge(app, requests_max=settings.requests_max), ledger)


def load_digest_key(config: Config) -> bytes:
    """The key of digests of requests; in development it is made in the data folder. Raises StartupError."""
    settings = config.commerce_service
    text = settings.digest_key.reveal()
    if not text and config.server.mode == "production":
        raise StartupError(
            "commerce_service.digest_key is required in production, the same for ever: "
            "set commerce_service.digest_key_file."
        )
    text = text or read_or_create(settings.data_dir / "keys" / KEY_FILE, new_key)
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES or is_guessable(key):
        raise StartupError(f"commerce_service.digest_key: {KEY_BYTES} random bytes in base64.")
    return key


def _check_terms(settings: CommerceServiceSettings) -> None:
    if not is_known(settings.reference_currency):
        raise StartupError("commerce_service.reference_currency: an unknown currency; set a code of ISO 4217.")
    if not is_timezone(settings.timezone):
        raise StartupError("commerce_service.timezone: there is no such time zone; set one such as Asia/Bangkok.")
