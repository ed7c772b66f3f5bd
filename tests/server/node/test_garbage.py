"""The search for cyclic garbage, as the whole process has it."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from server.clock import Clock
from server.config.settings import ServerSettings
from server.delivery.registry import Registry
from server.node.composition import Node
from server.node.garbage import GarbageSearch
from server.node.serve import run_node
from storage.postgres.pool import Pool
from tests.support.harness import TestIdentity, configured

NEW_OBJECTS = 1_000

pytestmark = pytest.mark.anyio
searched = pytest.mark.usefixtures("search")


class Knot:
    """Something with a cycle."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
async def search() -> AsyncIterator[None]:
    search = GarbageSearch(asyncio.get_running_loop(), new_objects=NEW_OBJECTS)
    search.begin()
    yield
    search.end()
    gc.freeze()  # as `conftest.py` left it


def make_objects(count: int) -> list[list[int]]:
    return [[] for _ in range(count)]


@contextmanager
def looks(look: Callable[[str, dict[str, int]], None]) -> Iterator[None]:
    gc.callbacks.insert(0, look)
    try:
        yield
    finally:
        gc.callbacks.remove(look)


@searched
async def test_new_cyclic_garbage_is_found() -> None:
    dead = weakref.ref(Knot())
    make_objects(3 * NEW_OBJECTS)
    assert dead() is None


@searched
async def test_a_look_takes_few_objects_however_many_live() -> None:
    sizes: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            sizes.append(sum(len(gc.get_objects(generation=it)) for it in range(info["generation"] + 1)))

    with looks(note):
        kept = make_objects(30 * NEW_OBJECTS)
    assert len(kept) == 30 * NEW_OBJECTS
    assert len(sizes) >= 15
    assert max(sizes) < 2.5 * NEW_OBJECTS


@searched
async def test_old_cyclic_garbage_is_found_when_there_is_four_times_as_much() -> None:
    knot = Knot()
    kept = make_objects(3 * NEW_OBJECTS)  # the knot outlives its looks
    dead = weakref.ref(knot)
    del knot
    begun = gc.get_freeze_count()
    kept += make_objects(2 * begun)
    await asyncio.sleep(0)
    assert dead() is not None
    kept += make_objects(2 * begun)
    await asyncio.sleep(0)  # no search begins within another
    assert dead() is None


async def test_at_the_end_the_search_is_that_of_cpython_again() -> None:
    before = gc.get_threshold(), list(gc.callbacks)
    search = GarbageSearch(asyncio.get_running_loop())
    search.begin()
    assert (gc.get_threshold(), gc.callbacks) != before
    search.end()
    gc.freeze()
    assert (gc.get_threshold(), gc.callbacks) == before


async def test_a_node_searches_while_it_serves(database_url: str) -> None:
    stop, thresholds = asyncio.Event(), [gc.get_threshold()]
    config = configured(server=ServerSettings(port=0, admin_port=0, drain_timeout_s=2.0))

    async def make(pool: Pool, clock: Clock, *, sessions: Registry, **_: Any) -> TestIdentity:
        return TestIdentity(pool, clock, sessions)

    def serves(_node: Node) -> None:
        thresholds.append(gc.get_threshold())
        stop.set()

    await run_node(config, database_url, make, stop, serves)
    gc.freeze()
    assert thresholds[1] != thresholds[0] == gc.get_threshold()
