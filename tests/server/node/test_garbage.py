"""The search for cyclic garbage, as the whole process has it."""

import asyncio
import gc
from collections.abc import Callable, Coroutine
from multiprocessing import get_context
from typing import Any

import pytest

from server.clock import Clock
from server.config.settings import ServerSettings
from server.delivery.registry import Registry
from server.node.composition import Node
from server.node.garbage import GarbageSearch
from server.node.serve import run_node
from storage.postgres.pool import Pool
from tests.server.node.garbage_parts import find_what_is_new, find_what_is_old, look_at_few, run_alone
from tests.support.harness import TestIdentity, configured

pytestmark = pytest.mark.anyio


def hold_alone(part: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """In a process of its own: what lives in that of the tests are millions of objects, which a search looks at."""
    process = get_context("spawn").Process(target=run_alone, args=(part,))
    process.start()
    process.join()
    assert process.exitcode == 0


def test_new_cyclic_garbage_is_found() -> None:
    hold_alone(find_what_is_new)


def test_a_look_takes_few_objects_however_many_live() -> None:
    hold_alone(look_at_few)


def test_old_cyclic_garbage_is_found_when_there_is_four_times_as_much() -> None:
    hold_alone(find_what_is_old)


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
