"""What waits for a device is pushed once in a connection, in order, a page at a time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from protocol.close_codes import CloseCode
from protocol.events import FromDevice
from server.delivery.device_messages import DeviceMessageDelivery
from server.delivery.registry import Registry
from storage.device_messages import DeviceMessageRow, NewMessages
from storage.unavailable import StorageUnavailableError
from tests.server.delivery.stand_in import StandIn

pytestmark = pytest.mark.anyio

ANN, PHONE = b"a" * 16, b"p" * 16


class Store:
    """The messages of one device; `new` is for whom something came, by the horizon that was asked for."""

    def __init__(self) -> None:
        self.waiting: list[int] = []
        self.away = False
        self.asked: list[int | None] = []

    async def read(self, _device: bytes, *, limit: int) -> list[DeviceMessageRow]:
        await asyncio.sleep(0)
        if self.away:
            raise StorageUnavailableError
        return [DeviceMessageRow(number, ANN, ANN, PHONE, b"body") for number in self.waiting[:limit]]

    async def read_new(self, since: int | None) -> NewMessages:
        self.asked.append(since)
        return NewMessages(len(self.asked), [PHONE, b"q" * 16])


class Node:
    """The part under test, with one connection of the device."""

    def __init__(self) -> None:
        self.store = Store()
        self.registry = Registry()
        self.tasks: list[asyncio.Task[None]] = []
        store: Any = self.store
        self.device_messages = DeviceMessageDelivery(store, self.registry, self.spawn)
        self.phone = self.connect()

    def connect(self) -> StandIn:
        phone = StandIn(ANN, device=PHONE)
        self.registry.attach(phone)
        self.registry.take_over(phone)
        return phone

    def spawn(self, work: Any) -> None:
        self.tasks.append(asyncio.ensure_future(work))

    async def settle(self) -> None:
        await asyncio.gather(*self.tasks)


def numbers(phone: StandIn) -> list[int]:
    return [each.number for each in phone.pushed if isinstance(each, FromDevice)]


@pytest.fixture
async def node() -> Node:
    return Node()


async def test_what_was_pushed_in_a_connection_is_not_pushed_again_in_it(node: Node) -> None:
    for newest in (1, 2):
        node.store.waiting.append(newest)
        node.device_messages.push_to([PHONE])
        await node.settle()
    assert numbers(node.phone) == [1, 2]
    again = node.connect()
    node.device_messages.push(again)
    await node.settle()
    assert numbers(again) == [1, 2]


async def test_what_comes_while_a_page_is_read_follows_it(node: Node) -> None:
    node.store.waiting = [1]
    node.device_messages.push_to([PHONE])
    await asyncio.sleep(0)
    node.store.waiting = [1, 2]
    node.device_messages.push_to([PHONE])
    await node.settle()
    assert (numbers(node.phone), len(node.tasks)) == ([1, 2], 1)


async def test_a_device_that_confirms_nothing_gets_one_page(node: Node) -> None:
    node.store.waiting = list(range(1, 201))
    for _ in range(3):
        node.device_messages.push_to([PHONE])
        await node.settle()
    assert numbers(node.phone) == list(range(1, 51))
    node.store.waiting = node.store.waiting[50:]
    node.device_messages.push(node.phone)
    await node.settle()
    assert numbers(node.phone) == list(range(1, 101))


async def test_a_session_whose_messages_cannot_be_read_is_asked_to_reconnect(node: Node) -> None:
    node.store.away = True
    node.device_messages.push_to([PHONE])
    await node.settle()
    assert [code for code, _ in node.phone.closed_with] == [CloseCode.UNAVAILABLE]


async def test_what_another_node_stored_is_pushed_and_readings_overlap(node: Node) -> None:
    await node.device_messages.begin()
    node.store.waiting = [1]
    for _ in range(12):
        await node.device_messages.follow()
        await node.settle()
    assert numbers(node.phone) == [1]
    assert node.store.asked == [None, *[1] * 10, 2, 3]
