"""Every engine of storage runs the tests of this folder, and these call everything that a contract promises."""

from __future__ import annotations

import pkgutil
import re
from importlib import import_module
from inspect import getmembers, isclass, isfunction
from pathlib import Path
from typing import Any

import pytest

import storage
from server.identity.rates import MemoryRateLimiter
from storage.backlog import ArchiveBacklog
from storage.local.archive import LocalArchive
from storage.local.network import LocalBus, LocalPresence
from storage.local.rates import LocalBuckets
from storage.postgres.timelines import PostgresTimelines
from storage.timelines import Journal, Timelines
from tests.conformance.conftest import ENGINES, engines_of
from tests.support.world import World

ROOT = Path(__file__).parents[2]


def find_classes() -> list[type[Any]]:
    """The classes that the modules of storage define."""
    modules = [import_module(found.name) for found in pkgutil.walk_packages(storage.__path__, "storage.")]
    return [each for module in modules for _, each in getmembers(module, isclass) if each.__module__ == module.__name__]


def is_contract(each: type[Any]) -> bool:
    """Contracts are at the top of `storage`; a Protocol in a room of an engine is that engine's own affair."""
    return bool(getattr(each, "_is_protocol", False)) and each.__module__.count(".") == 1


def methods_of(each: type[Any]) -> set[str]:
    return {name for name, _ in getmembers(each, isfunction) if not name.startswith("_")}


CONTRACTS = [each for each in find_classes() if is_contract(each)]
IMPLEMENTATIONS = {
    each
    for each in find_classes()
    if not is_contract(each)
    and any(contract in each.__mro__ or methods_of(contract) <= methods_of(each) for contract in CONTRACTS)
}
WITHOUT_A_NODE = {LocalArchive, LocalBuckets, LocalBus, LocalPresence}
"""Engines that only tests and the simulation have: a node without an archive keeps everything in its journal, and a
node without others has nobody to tell."""
OF_A_NODE = {MemoryRateLimiter}
"""Engines that a node has without any storage."""
METHODS = [(contract, name) for contract in CONTRACTS for name in sorted(methods_of(contract))]

each_engine = pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.__name__)
each_engine_of_a_node = pytest.mark.parametrize(
    "engine", [engine for engine in ENGINES if engine not in WITHOUT_A_NODE], ids=lambda engine: engine.__name__
)


def test_every_class_that_implements_a_contract_is_an_engine_or_part_of_one() -> None:
    run = {part for engine in ENGINES for part in engine.__mro__}
    assert set(ENGINES) - OF_A_NODE <= IMPLEMENTATIONS <= run


def test_every_contract_has_an_engine() -> None:
    assert set(CONTRACTS) == {part for contract in ENGINES.values() for part in contract.__mro__ if part in CONTRACTS}


@each_engine
def test_an_engine_implements_the_whole_contract(engine: type[Any]) -> None:
    contract = ENGINES[engine]
    assert contract in engine.__mro__
    assert {name for name in methods_of(contract) if getattr(engine, name) is getattr(contract, name)} == set()


@each_engine_of_a_node
def test_a_node_uses_the_engine(engine: type[Any]) -> None:
    node = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "server" / "node").glob("*.py"))]
    assert any(re.search(rf"\b{engine.__name__}\(", source) for source in node)


@pytest.mark.anyio
async def test_the_fixtures_run_every_engine(
    world: World, archived_world: World, backlogs: list[ArchiveBacklog]
) -> None:
    assert [type(world.journal)] == engines_of(Journal)
    assert [PostgresTimelines, type(archived_world.timelines).__base__] == engines_of(Timelines)
    assert list({type(each) for each in backlogs}) == engines_of(ArchiveBacklog)


@pytest.mark.parametrize(("contract", "name"), METHODS)
def test_a_test_of_this_folder_calls_the_method(contract: type[Any], name: str) -> None:
    del contract
    files = [*Path(__file__).parent.glob("test_*.py"), *(ROOT / "tests" / "support").glob("*.py")]
    assert any(re.search(rf"\.{name}\(", file.read_text(encoding="utf-8")) for file in files)
