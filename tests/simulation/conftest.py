"""Fixtures of this folder."""

import pytest

from tests.simulation.memory_world import MemoryWorld


@pytest.fixture
def world() -> MemoryWorld:
    """What the conformance suite calls a world, here in memory."""
    return MemoryWorld()
