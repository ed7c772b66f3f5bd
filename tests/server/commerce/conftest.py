"""The commerce service under test."""

from collections.abc import AsyncIterator

import pytest

from server.config.settings import Config
from tests.support.commerce_world import CommerceWorld, opened_world


@pytest.fixture
async def commerce(money_url: str) -> AsyncIterator[CommerceWorld]:
    """The service with default settings."""
    async with opened_world(money_url, Config()) as world:
        yield world
