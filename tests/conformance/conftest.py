"""The engines under test."""

from collections.abc import AsyncIterator

import pytest

from tests.world import World


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    """A fresh world on PostgreSQL, the one engine there is so far."""
    opened = await World.open(database_url)
    yield opened
    await opened.close()
