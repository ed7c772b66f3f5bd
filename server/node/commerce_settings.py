"""What the settings of commerce name: its database, its keys, and what a wallet begins with."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import msgspec

from protocol.commerce.currencies import is_known
from server.commerce.wallet_keeping import WalletTerms, is_timezone
from server.config.payment_settings import CommerceServiceSettings
from server.config.setting_types import Secret
from server.config.settings import Config
from server.identity.key_files import read_or_create
from server.identity.vault import KEY_BYTES, is_guessable, new_key
from server.startup_error import StartupError
from storage.commerce.schema import MONEY_SETTINGS
from storage.postgres.pool import Pool, open_pool
from storage.postgres.write_connections import WriteConnections
from storage.unavailable import StorageUnavailableError

KEY_FILE = "digest.key"
PERSONAL_KEY_FILE = "personal.key"
SEALING_KEY_FILE = "sealing.key"
KEY_FOLDERS = ("person-keys", "person-keys-again")
"""In the data folder, where no others are set."""


def of_commerce(config: Config) -> Config:
    """The configuration with the database of commerce in place of the chat's."""
    settings = config.commerce_service
    return msgspec.structs.replace(
        config,
        server=msgspec.structs.replace(config.server, data_dir=settings.data_dir),
        storage=msgspec.structs.replace(
            config.storage, postgres_url=settings.postgres_url, postgres_password=settings.postgres_password
        ),
    )


@contextlib.contextmanager
def says_what_to_set() -> Iterator[None]:
    """Turn what PostgreSQL refuses into a StartupError that names the setting."""
    try:
        yield
    except (StorageUnavailableError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise StartupError(f"PostgreSQL at commerce_service.postgres_url cannot be used ({error}).") from error


@contextlib.asynccontextmanager
async def connected(url: str, statement_timeout_s: float) -> AsyncIterator[tuple[WriteConnections, Pool]]:
    """Connections to the database of commerce for one command: for steps, and for reads."""
    async with await open_pool(url, size=2, statement_timeout_s=statement_timeout_s, settings=MONEY_SETTINGS) as reads:
        writes = WriteConnections(url, size=1, statement_timeout_s=statement_timeout_s, settings=MONEY_SETTINGS)
        try:
            yield writes, reads
        finally:
            writes.terminate()


def load_digest_key(config: Config) -> bytes:
    """The key of digests of requests; in development it is made in the data folder. Raises StartupError."""
    return _load_key(config, "digest_key", config.commerce_service.digest_key, KEY_FILE)


def load_sealing_key(config: Config) -> bytes:
    """The key of the bodies of webhooks, likewise. Raises StartupError."""
    return _load_key(config, "sealing_key", config.commerce_service.sealing_key, SEALING_KEY_FILE)


def load_personal_key(config: Config) -> bytes:
    """The key of the keys of people, likewise. Raises StartupError."""
    return _load_key(config, "personal_key", config.commerce_service.personal_key, PERSONAL_KEY_FILE)


def find_key_folders(config: Config) -> tuple[Path, Path]:
    """Where the keys of people are, twice. Raises StartupError."""
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


def read_wallet_terms(settings: CommerceServiceSettings) -> WalletTerms:
    """With what a wallet begins. Raises StartupError."""
    if not is_known(settings.reference_currency):
        raise StartupError("commerce_service.reference_currency: an unknown currency; set a code of ISO 4217.")
    if not is_timezone(settings.timezone):
        raise StartupError("commerce_service.timezone: there is no such time zone; set one such as Asia/Bangkok.")
    return WalletTerms(
        timezone=settings.timezone,
        reference_currency=settings.reference_currency,
        day_max=settings.day_max_minor,
        month_max=settings.month_max_minor,
    )


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
