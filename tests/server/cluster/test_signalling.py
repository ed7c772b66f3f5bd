"""Signals between nodes: what was said in an epoch is not shown in the next."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest

from protocol.dialog_types import DialogType
from protocol.events import ReceiptChanged
from protocol.ids import new_id
from server.cluster.links import Links
from server.cluster.messages import NodeMessage, NodeSignals, ReceiptRaised, decode_message
from server.cluster.signalling import Signalling
from server.delivery.presence import Presence
from server.delivery.registry import Registry
from server.delivery.rooms import Rooms
from storage.bus import ConnectionKey, Located
from storage.local.network import LocalBus, LocalPresence
from storage.rows import DialogRoster
from tests.server.delivery.stand_in import StandIn, frame_of
from tests.support.clock import ManualClock
from tests.support.no_shares import NO_SHARES
from tests.support.turns import until

pytestmark = pytest.mark.anyio

HERE, THERE = 1, 2
DIALOG, ANN, BO = new_id(), new_id(), new_id()
READ = ReceiptChanged(DIALOG, ANN, 9, 9)
RAISED = ReceiptRaised(DIALOG, ANN, 9, 9, 0, shared=True)


class Gated(LocalPresence):
    """A store of presence, and rosters, that answer when the gate is open."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.asked = 0

    async def locate(self, principals: Sequence[bytes]) -> Located:
        await self._answer()
        return await super().locate(principals)

    async def read_roster(self, _dialog: bytes) -> DialogRoster:
        await self._answer()
        return DialogRoster(DialogType.DIRECT, 1, {ANN: 1, BO: 1})

    async def _answer(self) -> None:
        self.asked += 1
        await self.gate.wait()


class Node:
    """A node with Bo; another one is there, too."""

    def __init__(self) -> None:
        self.epoch, self.store, self.registry, self.bo = 1, Gated(), Registry(), StandIn(BO)
        self.registry.attach(self.bo)
        self.sent: list[NodeMessage] = []
        self._bus = LocalBus()
        links = Links(self._bus, incarnation=HERE)
        links.keep([THERE])
        self.signalling = Signalling(
            self.store, links, cast("Any", None), registry=self.registry, get_epoch=lambda: self.epoch,
            device_messages=cast("Any", None),
            rooms=Rooms(cast("Any", self.store), NO_SHARES, self.registry, asyncio.ensure_future, rooms_max=9),
            presence=Presence(self.registry, ManualClock()), spawn=asyncio.ensure_future,
        )  # fmt: skip

    async def listen(self) -> None:
        """Hear what the other node is sent."""
        listening = self._bus.receive(THERE, lambda raw: self.sent.append(decode_message(raw)), lambda: None)
        self._listening = asyncio.ensure_future(listening)
        await self.store.put([ConnectionKey(ANN, THERE, 1)])


@pytest.mark.parametrize(("epoch", "shown"), [(1, [frame_of(READ)]), (2, [])])
async def test_a_receipt_that_waits_for_a_roster_is_shown_in_its_epoch_only(epoch: int, shown: list[bytes]) -> None:
    node = Node()
    node.signalling.receive(NodeSignals(THERE, 1, [RAISED, RAISED]))
    await until(lambda: node.store.asked)
    node.epoch = epoch
    node.store.gate.set()
    await until(lambda: not node.signalling._received)
    assert node.bo.states == shown * 2


@pytest.mark.parametrize("epoch", [1, 2])
async def test_a_receipt_that_waits_for_a_lookup_is_sent_in_its_epoch_only(epoch: int) -> None:
    node = Node()
    await node.listen()
    node.signalling.raise_receipt([ANN], READ, shared=True)
    await until(lambda: node.store.asked)
    node.epoch = epoch
    node.signalling.raise_receipt([ANN], ReceiptChanged(DIALOG, BO, 1, 1), shared=True)
    await until(lambda: node.store.asked == 2)
    node.store.gate.set()
    new = NodeSignals(HERE, epoch, [ReceiptRaised(DIALOG, BO, 1, 1, 0, shared=True)])
    expected = [NodeSignals(HERE, 1, [RAISED]), new] if epoch == 1 else [new]
    await until(lambda: new in node.sent)
    assert node.sent == expected
