"""A node of which there are only peers and what delivers, on readings that the test says."""

from __future__ import annotations

import asyncio
from typing import Any

from protocol.ids import new_id
from server.cluster.leases import Leases
from server.cluster.peers import Peers
from server.delivery.resequencer import Resequencer
from server.writing.horizon import Horizon
from server.writing.position import Positions
from storage.rows import IncarnationRow
from tests.support.clock import ManualClock
from tests.support.fake_nodes import US, FakeNodes

DIALOG, OTHER = new_id(), new_id()
X, Y = 2, 3


def alive(incarnation: int) -> IncarnationRow:
    """A node that lives."""
    return IncarnationRow(incarnation, "node", 1, ended=False)


def fenced(incarnation: int, at: int) -> IncarnationRow:
    """A node that has ended; all that it wrote has a lower stamp."""
    return IncarnationRow(incarnation, "node", 1, ended=True, fenced_at=at)


class HearingNode:
    """A node of which there are only peers and what delivers: `delivered` are (dialog, seq)."""

    def __init__(self, *others: IncarnationRow) -> None:
        self.nodes = FakeNodes()
        self.nodes.others = list(others)
        self.clock = ManualClock()
        self.delivered: list[tuple[bytes, int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.epochs: list[int] = []
        self.order = Resequencer(
            self.nodes,
            lambda what, _roster_seq: self.delivered.append((what.dialog, what.seq)),
            lambda _dialog, _first: None,
            lambda: self.peers.floor,
            asyncio.ensure_future,
            dialogs_max=100,
            sleep=lambda _s: asyncio.sleep(0),
        )
        journal: Any = None  # the horizon comes from the readings
        positions = Positions(bytes(32), self.clock, age_max_s=100.0)
        self.horizon = Horizon(
            journal, positions, self.clock, self.pass_gate, self.order.wait_settled, epoch=1, incarnation=US
        )
        self.leases = Leases(self.nodes, self.clock, asyncio.ensure_future, incarnation=US, lease_s=1e9)
        self.peers = Peers(
            self.nodes,
            self.order,
            self.horizon,
            self.leases,
            self.clock,
            incarnation=US,
            begin_epoch=self.begin_epoch,
        )

    async def pass_gate(self) -> None:
        await self.gate.wait()

    def begin_epoch(self, epoch: int) -> None:
        self.epochs.append(epoch)
        self.horizon.begin_epoch(epoch)
        self.order.forget_all()

    async def look(self, horizon: int | None = None, next_xid: int | None = None) -> bool:
        """A second passes, and the cluster is read: with this horizon."""
        self.clock.advance(1.0)
        if horizon is not None:
            self.nodes.horizon = self.nodes.next_xid = horizon
        self.nodes.next_xid = next_xid or self.nodes.next_xid
        more = await self.peers.look()
        if self.gate.is_set():
            await self.order.wait_settled()
            await self.peers.wait_handed_out()
        return more

    def asked(self) -> list[tuple[Any, ...]]:
        """What was read of others since the last question: whose rows, from where, to where."""
        asked = [call[1:] for call in self.nodes.calls if call[0] == "written"]
        self.nodes.calls.clear()
        return asked

    async def become_whole(self, source: int, horizon: int) -> int:
        """Have a source tell what it writes without a gap, until it is believed; the number that comes next."""
        self.peers.tick(source, 0, 0)
        await self.look(horizon)
        self.asked()
        return 1
