"""Fixtures of this folder."""

import pytest

from tests.simulation.ahead import SeedsAhead
from tests.simulation.memory_world import MemoryWorld


@pytest.fixture
def world() -> MemoryWorld:
    """What the conformance suite calls a world, here in memory."""
    return MemoryWorld()


@pytest.fixture
def broken_seeds(first: int, seeds_ahead: SeedsAhead) -> dict[str, str]:
    """The seeds that broke a promise, of the hundred from `first` on, and how."""
    return seeds_ahead.broken_from(first)
