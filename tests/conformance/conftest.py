"""The engines under test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from storage.archive import Archive
from storage.local.archive import LocalArchive
from storage.postgres.journal import PostgresJournal
from storage.postgres.pool import open_pool
from storage.postgres.timelines import PostgresTimelines
from storage.timelines import Journal, Timelines
from tests.support.identity_people import IdentityStores
from tests.support.world import World

ENGINES: dict[type[Any], type[Any]] = {
    PostgresJournal: Journal,
    PostgresTimelines: Timelines,
    LocalArchive: Archive,
}
"""The contract of each engine; the fixtures `world` and `archive` hand out every one of them."""


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    """A fresh world on PostgreSQL, the one engine there is so far."""
    opened = await World.open(database_url)
    yield opened
    await opened.close()


@pytest.fixture(params=[engine for engine, contract in ENGINES.items() if contract is Archive])
def archive(request: pytest.FixtureRequest) -> Archive:
    """An empty archive of each engine."""
    made: Archive = request.param()
    return made


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool[Any]]:
    """Connections to a fresh database."""
    opened = await open_pool(database_url, size=12, statement_timeout_s=30.0)
    yield opened
    await opened.close()


@pytest.fixture
def stores(pool: asyncpg.Pool[Any]) -> IdentityStores:
    """The three stores of identity."""
    return IdentityStores(pool)
