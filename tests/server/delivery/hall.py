"""Rooms over a real timeline store, and subscribers that note what they get."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from protocol.bodies import TimelineEventRaw
from protocol.close_codes import CloseCode
from server.delivery.prepared_message import PreparedEvents, PreparedMessage
from server.delivery.registry import Registry
from server.delivery.rooms import Rooms
from storage.postgres.shares import PostgresShares
from storage.rows import ChangeResult
from tests.support.faulty import FaultyTimelines
from tests.support.world import Person, World


class Listener:
    """A subscriber that is its own outbox, and notes what is pushed to it."""

    def __init__(self, person: Person) -> None:
        self.principal, self.device, self.sign_in = person.principal, person.device, person.sign_in
        self.outbox: Any = self
        self.seqs: list[int] = []
        self.ephemeral_count = 0
        self.pushes = 0
        self.receipts: list[tuple[bytes, bytes]] = []
        self.missed: list[int] = []

    def push_events(self, prepared: PreparedEvents) -> None:
        self.pushes += 1
        self.seqs += [event.seq for event in prepared.events]

    def push_ephemeral(self, _prepared: PreparedMessage) -> None:
        self.ephemeral_count += 1

    def push_state(self, key: tuple[bytes, bytes], _prepared: PreparedMessage) -> None:
        self.receipts.append(key)

    def read_from(self, _dialog: bytes, seq: int) -> None:
        self.missed.append(seq)

    def close(self, code: CloseCode, reason: str = "") -> None:
        raise AssertionError((code, reason))


class Hall:
    """Rooms over a real timeline store with faults."""

    def __init__(self, world: World, *, rooms_max: int = 10) -> None:
        self.world = world
        self.timelines = FaultyTimelines(world)
        self.registry = Registry()
        self.rooms = Rooms(
            self.timelines,
            PostgresShares(world.pool),
            self.registry,
            asyncio.ensure_future,
            rooms_max=rooms_max,
            sleep=lambda _s: asyncio.sleep(0),
        )

    def listen(self, person: Person) -> Listener:
        listener = Listener(person)
        self.registry.attach(listener)
        return listener

    async def deliver(self, dialog: bytes, seq: int) -> None:
        roster_seq = await self.world.pool.fetchval("SELECT roster_seq FROM heads WHERE dialog_id = $1", dialog)
        self.deliver_as_of(dialog, seq, roster_seq)

    def deliver_as_of(self, dialog: bytes, seq: int, roster_seq: int) -> None:
        self.deliver_all(dialog, [seq], roster_seq)

    def deliver_all(self, dialog: bytes, seqs: Sequence[int], roster_seq: int) -> None:
        """Deliver what one flush appended."""
        raw = msgspec.Raw(b"\x91\x05")
        events = [TimelineEventRaw(dialog, seq, dialog, dialog, 1, 0, 0, raw) for seq in seqs]
        self.rooms.deliver_events(events, roster_seq)

    async def route(self, result: ChangeResult) -> None:
        """Deliver what a change appended, as the router does."""
        if result.events:
            self.rooms.deliver_events(result.events, result.verdict.roster_seq)
