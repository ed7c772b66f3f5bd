"""A fresh database of commerce for each test that asks for one."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from storage.commerce.schema import MONEY_SCHEMA
from storage.postgres.migrate import migrate
from tests.support.databases import Databases
from tests.support.money_world import MoneyWorld
from tests.support.shop_world import ShopWorld

_TEMPLATE = "money_template"


@pytest.fixture(scope="session")
def money_template(databases: Databases) -> str:
    """The name of a migrated database of commerce without rows, to copy from."""
    asyncio.run(migrate(databases.create(_TEMPLATE), schema=MONEY_SCHEMA))
    return _TEMPLATE


@pytest.fixture
def money_url(databases: Databases, money_template: str) -> Iterator[str]:
    """A migrated database of commerce of this test alone."""
    with databases.copied(money_template) as url:
        yield url


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
