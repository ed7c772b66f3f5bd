"""The role of the service reads tables and calls the functions that are named; it writes nothing else."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

import storage.commerce
from storage.commerce.money_rows import StepOutcome
from storage.commerce.schema import MONEY, MONEY_SCHEMA, MONEY_SETTINGS
from storage.commerce.service_access import READ_FUNCTIONS, SERVICE_ROLE, STEPS
from storage.postgres.migrate import migrate
from tests.support.money_world import MoneyWorld

pytestmark = pytest.mark.anyio

_CALLED = re.compile(r"\b(?:SELECT|FROM) ([a-z_]+)\((?:[${]|\))")


@pytest.fixture
async def narrow(money_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection as the service has it."""
    connection = await asyncpg.connect(money_url, server_settings=MONEY_SETTINGS)
    yield connection
    await connection.close()


async def test_nothing_else_is_executable(narrow: asyncpg.Connection) -> None:
    rows = await narrow.fetch(
        "SELECT proname, prosecdef, array_to_string(proconfig, '') FROM pg_proc "
        "WHERE pronamespace = 'public'::regnamespace AND has_function_privilege(oid, 'EXECUTE')"
    )
    assert {row[0] for row in rows} == STEPS | READ_FUNCTIONS
    assert {row[0]: row[2] for row in rows if row[1]} == dict.fromkeys(STEPS, "search_path=pg_catalog, public, pg_temp")
    assert set(MONEY.list_names()) >= STEPS | READ_FUNCTIONS


async def test_tables_are_read_and_not_written(narrow: asyncpg.Connection) -> None:
    tables = [
        row[0]
        for row in await narrow.fetch(
            "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace"
        )
    ]
    assert len(tables) > 15
    for table in tables:
        await narrow.fetch(f"SELECT * FROM {table} LIMIT 1")
        for statement in (f"INSERT INTO {table} DEFAULT VALUES", f"DELETE FROM {table}", f"TRUNCATE {table}"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await narrow.execute(statement)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await narrow.execute("UPDATE accounts SET balance = balance + 1")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await narrow.execute("CREATE TABLE public.own ()")


async def test_what_only_steps_call_is_refused(narrow: asyncpg.Connection) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await narrow.execute("SELECT post(0, 'THB', 1::int2, $1, NULL, $1, 0::int2, $1, 0::int2, 1)", bytes(16).hex())


def test_the_list_is_what_the_stores_call() -> None:
    folder = Path(storage.commerce.__file__).parent
    called = {name for path in folder.rglob("*.py") for name in _CALLED.findall(path.read_text("utf-8"))}
    assert called - READ_FUNCTIONS - {"unnest"} == STEPS


async def test_an_owner_who_is_no_superuser_migrates_and_the_role_steps(money_url: str) -> None:
    administrator = await asyncpg.connect(money_url)
    await administrator.execute(f"CREATE ROLE keeper; GRANT {SERVICE_ROLE} TO keeper")
    await administrator.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public AUTHORIZATION keeper")
    assert await migrate(f"{money_url}{'&' if '?' in money_url else '?'}role=keeper", schema=MONEY_SCHEMA)
    assert await administrator.fetchval("SELECT tableowner FROM pg_tables WHERE tablename = 'accounts'") == "keeper"
    world = await MoneyWorld.open(money_url)
    ann, shop = await world.open_person(1_000), await world.open_person()
    assert (await world.send(world.payment(ann, shop, 400))).outcome is StepOutcome.DONE
    await world.close()
    await administrator.execute("DROP OWNED BY keeper CASCADE; DROP ROLE keeper")
    await administrator.close()
