"""A running node for tests that talk to it over a socket."""

from collections.abc import AsyncIterator

import pytest

from tests.support.harness import Running, configured, running


@pytest.fixture
async def server(database_url: str) -> AsyncIterator[Running]:
    """A node with the default limits."""
    async with running(database_url, configured()) as node:
        yield node
