"""Migrations: plain SQL files, applied in the order of their numbers, then the functions, all in one transaction.

There is no migration library, because the task is short: the files are plain SQL over our driver, while alembic would
need SQLAlchemy; functions are created again when their text has changed, which numbered files cannot express; and the
schema of another engine (`storage/cql/migrate.py`) is applied in the same way.

Invariants: several nodes may start together, one migrates and the others wait; either everything outstanding is
applied or nothing; there are no downgrades, only a restore. The functions are those of the version that migrated last:
a change that older nodes cannot work with needs a numbered migration, so that they refuse to start.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from storage.function_files import FunctionFiles, digest, list_droppable
from storage.numbered_files import MigrationError, list_names, missing_names, number_of
from storage.postgres.functions import CHAT

FOLDER = Path(__file__).parent / "migrations"


@dataclass(frozen=True, slots=True)
class Schema:
    """The tables and functions of one database: numbered files, functions, and who may use them.

    `granted` asks whether `grants` hold in this cluster.
    """

    folder: Path
    functions: FunctionFiles
    grants: str = ""
    granted: str = ""


CHAT_SCHEMA = Schema(FOLDER, CHAT)
FUNCTIONS = "functions"
"""The name of the last step, which is taken when the text of a function has changed."""
_LOCK_KEY = 0x7463686174  # "tchat", read as a number: the advisory lock under which one node migrates
_OWN_TABLES = """
CREATE TABLE IF NOT EXISTS migrations (
    number     int PRIMARY KEY,
    name       text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE IF NOT EXISTS applied_functions (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    digest   text NOT NULL,
    names    text[] NOT NULL
);
"""
_STATE = "SELECT coalesce(array_agg(number), '{}'), (SELECT digest FROM applied_functions) FROM migrations"
_NOTE_MIGRATION = "INSERT INTO migrations (number, name) VALUES ($1, $2)"
_NOTE_FUNCTIONS = """
INSERT INTO applied_functions (digest, names) VALUES ($1, $2)
ON CONFLICT (only_row) DO UPDATE SET digest = excluded.digest, names = excluded.names
"""
_OLD_FUNCTIONS = """
SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace s ON s.oid = p.pronamespace
WHERE s.nspname = current_schema()
  AND p.proname = ANY ($1::text[] || coalesce((SELECT names FROM applied_functions), '{}'))
"""


def known_migrations() -> list[str]:
    """The names of this version's files, oldest first: "0001_core"."""
    return list_names(FOLDER)


async def is_current(connection: "asyncpg.Connection[Any]", schema: Schema = CHAT_SCHEMA) -> bool:
    """Whether tables, functions and grants are this version's: a query or two.

    Raises MigrationError if a newer version of tchat has migrated it.
    """
    try:
        applied, present = await _read_state(connection)
    except asyncpg.UndefinedTableError:
        return False
    if missing_names(applied, schema.folder) or present != _digest(schema):
        return False
    return not schema.granted or bool(await connection.fetchval(schema.granted))


async def migrate(
    url: str, progress: Callable[[str], None] = lambda _line: None, schema: Schema = CHAT_SCHEMA
) -> list[str]:
    """Bring the database at `url` to this version; return the names of the steps taken, each shown by `progress`.

    Raises MigrationError if a newer version migrated it or a file fails; then nothing has changed.
    """
    connection = await asyncpg.connect(url)
    try:
        if await is_current(connection, schema):
            return []
        async with connection.transaction(isolation="read_committed"):
            return await _migrate(connection, progress, schema)
    except asyncpg.PostgresError as error:
        raise MigrationError(f"A migration failed and nothing was changed: {error}") from error
    finally:
        await connection.close()


@asynccontextmanager
async def migrating_alone(url: str) -> AsyncIterator[None]:
    """Meanwhile no other node migrates: for the schema of an engine that has no lock of its own."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f"SELECT pg_advisory_lock({_LOCK_KEY})")
        yield
    finally:
        await connection.close()


async def _migrate(connection: "asyncpg.Connection[Any]", progress: Callable[[str], None], schema: Schema) -> list[str]:
    await connection.execute(f"SELECT pg_advisory_xact_lock({_LOCK_KEY})")
    await connection.execute(_OWN_TABLES)
    await _take_over_from_alembic(connection)
    applied, present = await _read_state(connection)
    steps = []
    for name in missing_names(applied, schema.folder):
        await connection.execute((schema.folder / f"{name}.sql").read_text(encoding="utf-8"))
        await connection.execute(_NOTE_MIGRATION, number_of(name), name[5:])
        steps.append(name)
        progress(name)
    if present != _digest(schema):
        await _replace_functions(connection, schema)
        steps.append(FUNCTIONS)
        progress(FUNCTIONS)
    if schema.grants:
        await connection.execute(schema.grants)
    return steps


def _digest(schema: Schema) -> str:
    """What the functions and grants are noted by, when they have been applied."""
    grants = {"": schema.grants} if schema.grants else {}
    return digest(schema.functions.render_all() | grants)


async def _read_state(connection: "asyncpg.Connection[Any]") -> tuple[list[int], str | None]:
    """The numbers that were applied, and the digest of the functions."""
    row = await connection.fetchrow(_STATE)
    assert row is not None, "an aggregate has one row"
    return row[0], row[1]


async def _replace_functions(connection: "asyncpg.Connection[Any]", schema: Schema) -> None:
    """Drop ours and those that a version before had, whatever their parameters, and create ours.

    A function of a trigger is neither dropped nor noted: no version, ours or an older one, could drop it.
    """
    rendered = schema.functions.render_all()
    droppable = list_droppable(rendered)
    for (signature,) in await connection.fetch(_OLD_FUNCTIONS, droppable):
        await connection.execute(f"DROP FUNCTION {signature}")
    for text in rendered.values():
        await connection.execute(text)
    await connection.execute(_NOTE_FUNCTIONS, _digest(schema), droppable)


async def _take_over_from_alembic(connection: "asyncpg.Connection[Any]") -> None:
    """What alembic applied, up to number 3, counts as applied; its own table goes."""
    if await connection.fetchval("SELECT to_regclass('alembic_version')") is None:
        return
    applied = int(await connection.fetchval("SELECT max(version_num) FROM alembic_version") or 0)
    for name in known_migrations():
        if number_of(name) <= applied:
            await connection.execute(_NOTE_MIGRATION, number_of(name), name[5:])
    await connection.execute("DROP TABLE alembic_version")
