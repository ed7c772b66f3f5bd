"""A ledger and a chat, each with a database of its own, and a relay between them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.server.relay.between import Between, opened_between
from tests.support.api_world import ApiWorld, opened_api
from tests.support.clock import ManualClock
from tests.support.money_world import MoneyWorld
from tests.support.world import World


@pytest.fixture
async def api(database_url: str, clock: ManualClock) -> AsyncIterator[ApiWorld]:
    """The chat's API with default settings."""
    async with opened_api(database_url, clock) as opened:
        yield opened


@pytest.fixture
async def between(money_url: str, money: MoneyWorld, api: ApiWorld, world: World) -> AsyncIterator[Between]:
    """A relay that has a key, and people with money who talk."""
    async with opened_between(money_url, money, api, world) as opened:
        yield opened
