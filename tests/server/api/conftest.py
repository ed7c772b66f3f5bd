"""The API under test."""

from collections.abc import AsyncIterator

import pytest

from tests.support.api_world import ApiWorld, opened_api
from tests.support.clock import ManualClock


@pytest.fixture
async def api(database_url: str, clock: ManualClock) -> AsyncIterator[ApiWorld]:
    """An API with default settings."""
    async with opened_api(database_url, clock) as world:
        yield world
