"""What the search for cyclic garbage does, in a process that has little else."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from server.node.garbage import GarbageSearch

NEW_OBJECTS = 1_000


class Knot:
    """Something with a cycle."""

    def __init__(self) -> None:
        self.itself = self


async def search_during(part: Callable[[], Coroutine[Any, Any, None]]) -> None:
    search = GarbageSearch(asyncio.get_running_loop(), new_objects=NEW_OBJECTS)
    search.begin()
    await part()
    search.end()


def run_alone(part: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(search_during(part))


def make_objects(count: int) -> list[list[int]]:
    return [[] for _ in range(count)]


@contextmanager
def looks(look: Callable[[str, dict[str, int]], None]) -> Iterator[None]:
    gc.callbacks.insert(0, look)
    try:
        yield
    finally:
        gc.callbacks.remove(look)


async def find_what_is_new() -> None:
    assert gc.get_threshold()[0] == NEW_OBJECTS
    dead = weakref.ref(Knot())
    make_objects(3 * NEW_OBJECTS)
    assert dead() is None


async def look_at_few() -> None:
    sizes: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            sizes.append(sum(len(gc.get_objects(generation=it)) for it in range(info["generation"] + 1)))

    with looks(note):
        kept = make_objects(30 * NEW_OBJECTS)
    assert len(kept) == 30 * NEW_OBJECTS
    assert len(sizes) >= 15
    assert max(sizes) < 2.5 * NEW_OBJECTS


async def find_what_is_old() -> None:
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
