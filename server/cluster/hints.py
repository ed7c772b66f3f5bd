"""All that nodes tell each other directly: it makes delivery fast, and nothing depends on it.

With each horizon that settles, so each second, a node ticks: it tells each other that all its rows before that were
sent. A row that was delivered here was given to the publisher before, so a tick waits for what waits there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from server.clock import Clock, Sleep
from server.cluster.large_rooms import LargeRooms, ReadToHead
from server.cluster.links import Links
from server.cluster.peers import Peers
from server.cluster.publisher import Publisher
from server.cluster.receiver import Receiver
from server.cluster.signalling import Signalling
from server.cluster.whereabouts import Whereabouts
from server.delivery.device_messages import DeviceMessageDelivery
from server.delivery.presence import Presence
from server.delivery.registry import Registry
from server.delivery.rooms import Rooms, Spawn
from server.delivery.routing import Router
from server.writing.horizon import Horizon
from storage.bus import Bus, PresenceStore
from storage.nodes import Nodes

_log = logging.getLogger(__name__)

TICK_S = 1.25
"""Longest time between two ticks. A horizon that has settled is told at once: others' positions wait for it."""


class Hints:
    """What one incarnation tells the others and hears from them, over a bus and a store of presence."""

    def __init__(
        self,
        bus: Bus,
        store: PresenceStore,
        peers: Peers,
        rooms: Rooms,
        horizon: Horizon,
        *,
        router: Router,
        registry: Registry,
        device_messages: DeviceMessageDelivery,
        presence: Presence,
        nodes: Nodes,
        read_to_head: ReadToHead,
        spawn: Spawn,
        clock: Clock,
        incarnation: int,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        def get_epoch() -> int:
            return horizon.epoch

        self.links = Links(bus, incarnation=incarnation)
        self.publisher = Publisher(store, self.links, rooms, get_epoch)
        self.whereabouts = Whereabouts(
            store, clock, self._doubt_all, draw_stamp=nodes.draw_stamp, incarnation=incarnation, sleep=sleep
        )
        self.large_rooms = LargeRooms(
            self.whereabouts, nodes, rooms, read_to_head, registry=registry, spawn=spawn, clock=clock
        )
        rooms.is_nobody_here = self.large_rooms.is_nobody_here
        router.on_growth = self.large_rooms.note_growth
        self.signalling = Signalling(
            store,
            self.links,
            self.whereabouts,
            rooms=rooms,
            device_messages=device_messages,
            registry=registry,
            presence=presence,
            get_epoch=get_epoch,
            spawn=spawn,
        )
        device_messages.tell = self.signalling.note_messages
        self.receiver = Receiver(
            peers,
            self.links,
            self.signalling.receive,
            is_whole=lambda: bool(self.whereabouts.token),
            get_epoch=get_epoch,
        )
        self._bus = bus
        self._peers = peers
        self._incarnation = incarnation
        self._get_epoch = get_epoch

    async def run(self) -> None:
        """Tell and hear, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._bus.receive(self._incarnation, self.receiver.deliver, self.receiver.doubt_all))
            group.create_task(self.publisher.run())
            group.create_task(self.whereabouts.run())
            group.create_task(self._tick_always())

    async def tick(self) -> None:
        """Tell the others that nothing is missing, once that is so."""
        self.links.keep(self._peers.living)
        self.signalling.followed.tick()
        epoch, horizon = self._get_epoch(), self._peers.settled
        await self.publisher.wait_settled()
        if epoch == self._get_epoch():
            self.links.tick(epoch, horizon, self.whereabouts.token)

    def _doubt_all(self) -> None:
        self.receiver.doubt_all()

    async def _tick_always(self) -> None:
        while True:
            await self.tick()
            self.large_rooms.drop_empty()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._peers.wait_settled_again()
