"""What `tchat doctor` says of commerce, where this machine has its data folder or a URL of its database."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg

from server.config.settings import Config
from server.node.commerce_settings import load_digest_key, of_commerce
from server.node.finding import Finding
from server.node.postgres_start import visited_postgres
from server.startup_error import StartupError
from storage.commerce.ledger import OLDEST_DUE_S
from storage.commerce.schema import MONEY_SCHEMA
from storage.embedded.data_folder import DataFolderError
from storage.embedded.install import EmbeddedError
from storage.numbered_files import MigrationError
from storage.postgres.migrate import is_current

_CONNECT_TIMEOUT_S = 10.0
_DUE_MAX_S = 60


def examine_commerce(config: Config) -> list[Finding]:
    """The books, and the key of digests; nothing where commerce does not run."""
    settings = config.commerce_service
    if not settings.postgres_url and not (settings.data_dir / "postgres").exists():
        return []
    return [_digest_key(config), *_books(config)]


def _digest_key(config: Config) -> Finding:
    settings = config.commerce_service
    if not settings.digest_key and config.server.mode == "development":
        return Finding("ok", "commerce key", f"in {settings.data_dir}: back it up with the books")
    try:
        load_digest_key(config)
    except StartupError as error:
        return Finding("problem", "commerce key", str(error))
    return Finding("ok", "commerce key", "the key of digests can be used")


def _books(config: Config) -> list[Finding]:
    try:
        with visited_postgres(of_commerce(config)) as url:
            assert url is not None, "there is a folder or a URL"
            return asyncio.run(_look(url))
    except (DataFolderError, EmbeddedError) as error:
        return [Finding("problem", "books", str(error))]
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        text = f"cannot be reached ({error}): check commerce_service.postgres_url and its password."
        return [Finding("problem", "books", text)]


async def _look(url: str) -> list[Finding]:
    connection = await asyncpg.connect(url, timeout=_CONNECT_TIMEOUT_S)
    try:
        schema = await _schema(connection)
        return [schema, await _due(connection)] if schema.level == "ok" else [schema]
    finally:
        await connection.close()


async def _schema(connection: asyncpg.Connection[Any]) -> Finding:
    try:
        if await is_current(connection, MONEY_SCHEMA):
            return Finding("ok", "books", "reached; their schema is current")
    except MigrationError as error:
        return Finding("problem", "books", str(error))
    return Finding("note", "books", "older than this version: the next `tchat commerce` brings them up to date")


async def _due(connection: asyncpg.Connection[Any]) -> Finding:
    late_s = await connection.fetchval(OLDEST_DUE_S) or 0
    if late_s > _DUE_MAX_S:
        text = f"a payment has been due for {late_s:.0f} s and is not expired: does `tchat commerce` run? See its log."
        return Finding("problem", "payments due", text)
    return Finding("ok", "payments due", "all that are due are expired")
