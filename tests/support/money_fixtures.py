"""A fresh database of commerce for each test that asks for one."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from storage.commerce.schema import MONEY_SCHEMA
from storage.embedded.cluster import EmbeddedPostgres
from storage.postgres.migrate import migrate
from tests.support.money_world import MoneyWorld
from tests.support.shop_world import ShopWorld

_TEMPLATE = "money_template"
_numbers = itertools.count(1)


def _execute(postgres: EmbeddedPostgres, statement: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(postgres.url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(run())


@pytest.fixture(scope="session")
def money_template(postgres: EmbeddedPostgres) -> str:
    """The name of a migrated database of commerce without rows, to copy from."""
    _execute(postgres, f"CREATE DATABASE {_TEMPLATE}")
    asyncio.run(migrate(postgres.database_url(_TEMPLATE), schema=MONEY_SCHEMA))
    return _TEMPLATE


@pytest.fixture
def money_url(postgres: EmbeddedPostgres, money_template: str) -> Iterator[str]:
    """A migrated database of commerce of this test alone."""
    name = f"money_{next(_numbers)}"
    _execute(postgres, f"CREATE DATABASE {name} TEMPLATE {money_template} STRATEGY wal_log")
    yield postgres.database_url(name)
    _execute(postgres, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def money(money_url: str) -> AsyncIterator[MoneyWorld]:
    """Wallets in a fresh database."""
    opened = await MoneyWorld.open(money_url)
    yield opened
    await opened.close()


@pytest.fixture
async def shops(money: MoneyWorld, money_url: str) -> AsyncIterator[ShopWorld]:
    """A shop in a fresh database, with connections for races, whose books are right at the end."""
    opened = await ShopWorld.open(money, money_url, size=12)
    yield opened
    faults = await opened.audit()
    await opened.close()
    assert faults == {}
