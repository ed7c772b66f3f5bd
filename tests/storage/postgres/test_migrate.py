"""Migrations against real PostgreSQL."""

import asyncio
from pathlib import Path

import asyncpg
import pytest

from storage.numbered_files import MigrationError
from storage.postgres.functions import CHAT
from storage.postgres.migrate import FOLDER, FUNCTIONS, Schema, is_current, known_migrations, migrate

pytestmark = pytest.mark.anyio

ALL = [*known_migrations(), FUNCTIONS]


async def test_an_empty_database_gets_every_file_in_order_and_then_the_functions(empty_database_url: str) -> None:
    shown: list[str] = []
    assert await migrate(empty_database_url, shown.append) == ALL
    assert shown == ALL


async def test_a_second_run_applies_nothing(empty_database_url: str) -> None:
    await migrate(empty_database_url)
    assert await migrate(empty_database_url) == []


async def test_a_database_is_current_only_after_migrating(empty_database_url: str) -> None:
    connection = await asyncpg.connect(empty_database_url)
    try:
        assert not await is_current(connection)
        await migrate(empty_database_url)
        assert await is_current(connection)
    finally:
        await connection.close()


async def test_nodes_that_start_together_migrate_once(empty_database_url: str) -> None:
    applied = await asyncio.gather(*(migrate(empty_database_url) for _ in range(4)))
    assert sorted(applied) == [[], [], [], ALL]


async def test_a_file_that_comes_later_than_one_with_a_higher_number_is_applied(
    empty_database_url: str, tmp_path: Path
) -> None:
    schema = Schema(tmp_path, CHAT)
    for path in FOLDER.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "9003_third.sql").write_text("CREATE TABLE third ()", "utf-8")
    await migrate(empty_database_url, schema=schema)
    for number, name in ((9001, "first"), (9002, "second")):
        (tmp_path / f"{number}_{name}.sql").write_text(f"CREATE TABLE {name} ()", "utf-8")
    applied = await asyncio.gather(*(migrate(empty_database_url, schema=schema) for _ in range(2)))
    assert sorted(applied) == [[], ["9001_first", "9002_second"]]


async def test_a_newer_schema_is_refused_by_name(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("INSERT INTO migrations (number, name) VALUES (3, 'of a branch'), (9999, 'later')")
        with pytest.raises(MigrationError, match="9999 by a newer tchat"):
            await is_current(connection)
        with pytest.raises(MigrationError, match="restore a backup"):
            await migrate(database_url)
    finally:
        await connection.close()


async def test_a_failing_file_changes_nothing(empty_database_url: str) -> None:
    connection = await asyncpg.connect(empty_database_url)
    try:
        await connection.execute("CREATE TABLE principals (in_the_way int)")
        with pytest.raises(MigrationError, match="nothing was changed"):
            await migrate(empty_database_url)
        assert not await is_current(connection)
        assert await connection.fetchval("SELECT to_regclass('migrations')") is None
    finally:
        await connection.close()
