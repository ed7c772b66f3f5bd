"""Migrations: plain SQL files, applied in order through alembic, all of them in one transaction.

A migration in `storage/migrations` is one `NNNN_name.py`, which names its predecessor, and the `NNNN_*.sql` beside it
that it applies, in the order of their names. Invariants: several nodes may start together, one migrates and the others
wait; either every outstanding file is applied or none; there is no way back but a restore, so no downgrades.
"""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg

FOLDER = Path(__file__).parent / "migrations"
_NAME = re.compile(r"\d{4}_\w+\.py")
_LOCK_KEY = 0x7463686174  # "tchat", read as a number: the advisory lock under which one node migrates


class MigrationError(Exception):
    """The schema cannot be brought to this version; the message says why and what to do."""


def known_revisions() -> list[str]:
    """What this version knows, oldest first, by the numbers in the files' names ("0001")."""
    return sorted(path.name[:4] for path in FOLDER.iterdir() if _NAME.fullmatch(path.name))


async def is_current(connection: "asyncpg.Connection[Any]") -> bool:
    """Whether the schema is this version's: one query, and no alembic.

    Raises MigrationError if a newer version of tchat has migrated it.
    """
    if await connection.fetchval("SELECT to_regclass('alembic_version')") is None:
        return False
    applied: str | None = await connection.fetchval("SELECT version_num FROM alembic_version")
    known = known_revisions()
    if applied is not None and applied not in known:
        raise MigrationError(
            f"The database was migrated to {applied} by a newer tchat and this one knows {known[-1]}: "
            "run the newer version, or restore a backup from before it."
        )
    return applied == known[-1]


async def migrate(url: str, progress: Callable[[str], None] = lambda _line: None) -> list[str]:
    """Bring the database at `url` to this version and return the revisions applied, oldest first.

    Raises MigrationError if a newer version migrated it or a file fails; then nothing has changed.
    """
    connection = await asyncpg.connect(url)
    try:
        if await is_current(connection):
            return []
    finally:
        await connection.close()
    return await _upgrade(url, progress)


async def _upgrade(url: str, progress: Callable[[str], None]) -> list[str]:
    # SQLAlchemy and alembic take half a second to import, which a server with a current schema need not pay.
    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import create_async_engine
    from sqlalchemy.pool import NullPool

    from storage.postgres.alembic_run import upgrade_in_transaction

    async def connect() -> "asyncpg.Connection[Any]":
        return await asyncpg.connect(url)

    def run(connection: Connection) -> list[str]:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK_KEY})")
        return upgrade_in_transaction(connection, FOLDER, progress)

    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            return await connection.run_sync(run)
    except asyncpg.PostgresError as error:
        raise MigrationError(f"A migration failed and nothing was changed: {error}") from error
    finally:
        await engine.dispose()


def migrate_blocking(url: str, progress: Callable[[str], None] = lambda _line: None) -> list[str]:
    """Run `migrate` where no event loop runs."""
    return asyncio.run(migrate(url, progress))
