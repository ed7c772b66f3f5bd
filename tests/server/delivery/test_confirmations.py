"""Devices that confirm at the same time share a statement, and each learns how its own ended."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from server.delivery.confirmations import Confirmations
from storage.unavailable import StorageUnavailableError
from tests.support.turns import until

pytestmark = pytest.mark.anyio

DEVICES = [bytes([number]) * 16 for number in range(1, 6)]


class Store:
    """Notes what it is told; a statement ends when `let_go` is called."""

    def __init__(self) -> None:
        self._ends = asyncio.Semaphore(0)
        self.begun: list[Sequence[tuple[bytes, int]]] = []
        self.away = False

    async def confirm(self, confirmed: Sequence[tuple[bytes, int]]) -> None:
        self.begun.append(confirmed)
        await self._ends.acquire()
        if self.away:
            raise StorageUnavailableError

    def let_go(self, statements: int) -> None:
        """Let so many end."""
        for _ in range(statements):
            self._ends.release()


class Node:
    """Devices that confirm the slices 1 and 2, the first one before the others."""

    def __init__(self) -> None:
        self.store = Store()
        store: Any = self.store
        confirmations = Confirmations(store)
        self.asked = [asyncio.ensure_future(confirmations.confirm(device, [1, 2])) for device in DEVICES]


@pytest.fixture
async def node() -> Node:
    node = Node()
    await until(lambda: node.store.begun)
    return node


def confirmed(*devices: bytes) -> list[tuple[bytes, int]]:
    return [(device, number) for device in devices for number in (1, 2)]


async def test_what_comes_while_a_statement_runs_goes_with_the_next_one(node: Node) -> None:
    node.store.let_go(len(DEVICES))
    await asyncio.gather(*node.asked)
    assert node.store.begun == [confirmed(DEVICES[0]), confirmed(*DEVICES[1:])]


async def test_who_shared_a_statement_that_got_no_answer_learns_it(node: Node) -> None:
    node.store.away = True
    node.store.let_go(2)
    outcomes = await asyncio.gather(*node.asked, return_exceptions=True)
    assert [type(each) for each in outcomes] == [StorageUnavailableError] * len(DEVICES)


async def test_what_others_confirm_is_stored_though_who_began_the_statement_has_gone(node: Node) -> None:
    node.store.let_go(1)
    await until(lambda: len(node.store.begun) == 2)
    node.asked[1].cancel()
    await until(lambda: len(node.store.begun) == 3)
    assert node.store.begun[2] == confirmed(*DEVICES[1:])
    node.store.let_go(1)
    await asyncio.gather(*node.asked[2:])
