"""The journal in memory is held to the contract: it runs the conformance suite of PostgreSQL.

Left out are the tests that look into PostgreSQL itself. A test that needs what is not simulated is refused loudly
(NotSimulatedError) and shown as an expected failure: docs/testing.md lists what that is.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from types import ModuleType

import pytest

from tests.conformance import test_bounded_reads, test_changes, test_erasing, test_journal, test_timelines
from tests.simulation.memory_world import MemoryWorld
from tests.simulation.tables import NotSimulatedError

pytestmark = pytest.mark.anyio

MODULES = (test_journal, test_changes, test_timelines, test_erasing, test_bounded_reads)
Test = Callable[[MemoryWorld], Awaitable[None]]


def find_tests(module: ModuleType) -> list[Test]:
    """Those that need a world and nothing of PostgreSQL."""
    return [
        test
        for name, test in vars(module).items()
        if name.startswith("test_")
        and list(inspect.signature(test).parameters) == ["world"]
        and ".pool" not in inspect.getsource(test)
    ]


CLAIMED = [test for module in MODULES for test in find_tests(module)]


@pytest.mark.parametrize("test", CLAIMED, ids=lambda test: test.__name__)
async def test_the_journal_in_memory_passes_or_refuses(test: Test, world: MemoryWorld) -> None:
    try:
        await test(world)
    except NotSimulatedError as refused:
        pytest.xfail(f"not simulated: {refused}")
