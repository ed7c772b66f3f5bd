"""What an operator does with `tchat commerce COMMAND`: API keys, months, imports, restored books, backups."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from cryptography.exceptions import InvalidTag

from protocol.ids import new_id
from server.commerce.balance_import import BalanceImport, Say, read_line
from server.commerce.gateways.sealed_webhooks import open_body
from server.commerce.step_keys import StepKeys
from server.commerce.wallet_keeping import WalletKeeping
from server.config.settings import Config
from server.identity.vault import hash_token, new_api_key
from server.node.backup import Kept, backup, restore
from server.node.commerce_settings import (
    KEY_FILE,
    connected,
    find_key_folders,
    load_digest_key,
    load_sealing_key,
    of_commerce,
    read_wallet_terms,
    says_what_to_set,
)
from server.node.lost_keys import give_up
from server.node.postgres_start import visited_postgres
from server.node.reconciliation import reconcile
from server.startup_error import StartupError
from storage.commerce.api_key_store import ApiKeyStore, Right
from storage.commerce.gateway_intents import GatewayIntents
from storage.commerce.ledger import Ledger
from storage.commerce.restored_books import Acceptance
from storage.commerce.schema import MONEY_SCHEMA, MONEY_SETTINGS
from storage.commerce.terms import Terms
from storage.postgres.pool import open_pool

_S_US = 1_000_000
_SHOWN_MAX = 1_000
_KEPT = Kept(
    section="commerce_service",
    schema=MONEY_SCHEMA,
    table="payment_versions",
    keys_section="commerce_service",
    keys={"digest_key": KEY_FILE},
    configured=lambda config: ["digest_key"] if config.commerce_service.digest_key else [],
    after="The books are read-only until `tchat commerce reconcile --accept` (docs/operations.md).",
)


def make_api_key(config: Config, tenant: int, name: str, rights: Right, businesses: Sequence[bytes]) -> str:
    """Make the API key of a platform service; one of this name ends. Raises StartupError."""
    key = new_api_key()

    async def make(store: ApiKeyStore) -> None:
        await store.set_key(tenant, name, new_id(), hash_token(key), rights=rights, businesses=businesses)

    _change_keys(config, make)
    return key


def end_api_key(config: Config, tenant: int, name: str) -> None:
    """End the API key of a platform service at once. Raises StartupError."""

    async def end(store: ApiKeyStore) -> None:
        if not await store.end_key(tenant, name):
            raise StartupError(f"There is no key named {name}: it has ended, or belongs to another tenant.")

    _change_keys(config, end)


def _change_keys(config: Config, change: Callable[[ApiKeyStore], Awaitable[None]]) -> None:
    async def run(url: str) -> None:
        timeout_s = config.commerce_service.statement_timeout_s
        pool = await open_pool(url, size=1, statement_timeout_s=timeout_s, settings=MONEY_SETTINGS)
        async with pool:
            await change(ApiKeyStore(pool))

    with _visited(config) as url:
        asyncio.run(run(url))


def close_month(config: Config, month: str) -> None:
    """Close a month (YYYY-MM, UTC): what is posted from now on is dated after it. Raises StartupError."""
    begins = _month_of(month)
    ends = datetime(begins.year + begins.month // 12, begins.month % 12 + 1, 1, tzinfo=UTC)

    async def close(url: str) -> bool:
        ledger = await Ledger.open(
            url, writes=1, reads=1, statement_timeout_s=config.commerce_service.statement_timeout_s
        )
        try:
            return await ledger.close_period(begins.year * 100 + begins.month, int(ends.timestamp()) * _S_US)
        finally:
            await ledger.aclose()

    with _visited(config) as url:
        if not asyncio.run(close(url)):
            raise StartupError(f"{month} is not over in UTC: close it when it is.")


def import_balances(config: Config, file: Path, tenant: int, say: Say) -> bool:
    """Post the opening balances of a file; whether all lines were. Raises StartupError, also for a malformed line."""
    try:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    _check_line(file, number, line)
    except OSError as error:
        raise StartupError(f"{file} cannot be read ({error.strerror}).") from error

    async def post(url: str) -> bool:
        begins_with, keys = read_wallet_terms(config.commerce_service), StepKeys(load_digest_key(config))
        async with connected(url, config.commerce_service.statement_timeout_s) as (writes, reads):
            ledger = Ledger(writes, reads)
            wallets = WalletKeeping(ledger, Terms(writes, reads), keys, begins_with)
            with file.open("rb") as lines:
                importing = BalanceImport(ledger, wallets, keys, tenant, say)
                await importing.run(lines)
                return not importing.refused

    with _visited(config) as url:
        return asyncio.run(post(url))


def _check_line(file: Path, number: int, line: bytes) -> None:
    try:
        read_line(line)
    except ValueError as error:
        raise StartupError(f"{file}, line {number}: {error}. Nothing was posted.") from error


def _month_of(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC)
    except ValueError:
        raise StartupError(f"{text} is no month: say YYYY-MM, as 2026-10.") from None


def show_webhooks(config: Config, gateway: str, last: int, show: Callable[[str], None]) -> None:
    """Show the newest webhooks of a gateway that are kept, a JSON line each. Raises StartupError."""
    if not 1 <= last <= _SHOWN_MAX:
        raise StartupError(f"--last: say 1 to {_SHOWN_MAX}.")

    async def read(url: str) -> list[tuple[int, bytes]]:
        async with connected(url, config.commerce_service.statement_timeout_s) as (writes, reads):
            return await GatewayIntents(writes, reads).read_webhooks(gateway, last)

    with _visited(config) as url:
        found = asyncio.run(read(url))
    key = load_sealing_key(config)
    for at_us, sealed in found:
        try:
            body = open_body(key, gateway, sealed).decode(errors="replace")
        except InvalidTag as error:
            raise StartupError("Another key has sealed this: set commerce_service.sealing_key_file.") from error
        show(json.dumps({"received_at_ms": at_us // 1000, "body": body}))


def reconcile_books(config: Config, *, accept: Acceptance | None, show: Callable[[str], None]) -> bool:
    """Show what restored books lack, and perhaps accept them as they are; whether they serve. Raises StartupError."""
    synchronous = config.commerce_service.failover_is_synchronous
    with _visited(config) as url:
        return asyncio.run(reconcile(url, synchronous=synchronous, accept=accept, show=show))


def give_up_keys(config: Config, *, accept: bool, show: Callable[[str], None]) -> bool:
    """Show what is lost with the keys of people, and perhaps delete it; whether that was done. Raises StartupError."""
    with _visited(config) as url:
        return asyncio.run(give_up(url, find_key_folders(config), accept=accept, show=show))


def back_up_books(config: Config, file: Path, show: Callable[[str], None]) -> None:
    """Write a backup of the embedded database and its keys; raises BackupError and the like."""
    backup(of_commerce(config), file, show, _KEPT)


def restore_books(config: Config, file: Path, show: Callable[[str], None]) -> None:
    """Make the data folder of commerce from a backup; raises BackupError and the like."""
    restore(of_commerce(config), file, show, _KEPT)


@contextlib.contextmanager
def _visited(config: Config) -> Iterator[str]:
    """The database of a commerce that has been started once."""
    with visited_postgres(of_commerce(config)) as url:
        if url is None:
            raise StartupError("There is no ledger yet: start `tchat commerce` once.")
        with says_what_to_set():
            yield url
