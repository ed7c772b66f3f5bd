"""Events that bring keys: each device here gets its slice first, and nobody else waits for that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import pytest

from protocol.bodies import MemberRemoved, TimelineEventRaw
from protocol.close_codes import CloseCode
from protocol.dialog_types import DialogType, Mode
from protocol.events import KeySlices
from protocol.ids import new_id
from server.delivery.prepared_message import PreparedEvents
from server.delivery.registry import Registry
from server.delivery.rooms import Rooms
from storage.postgres.shares import PostgresShares
from storage.rows import Entry
from storage.shares import SliceRow, StagedSlices
from storage.unavailable import StorageUnavailableError
from tests.support.identity_people import NOW
from tests.support.sealing import one_device_of
from tests.support.turns import until
from tests.support.world import Person, World, message

pytestmark = pytest.mark.anyio


class Listener:
    """A subscriber that is its own outbox, and notes numbers of events, words of slices, and what it is to read."""

    def __init__(self, person: Person) -> None:
        self.principal, self.device, self.sign_in = person.principal, person.device, person.sign_in
        self.outbox: Any = self
        self.live = True
        self.got: list[int | bytes | str] = []

    def push(self, slices: KeySlices) -> None:
        self.got += [each.body for each in slices.slices]

    def push_events(self, prepared: PreparedEvents) -> None:
        self.got += [event.seq for event in prepared.events]

    def read_from(self, _dialog: bytes, seq: int) -> None:
        self.got.append(f"from {seq}")

    def close(self, code: CloseCode, reason: str = "") -> None:
        raise AssertionError((code, reason))


class GatedShares(PostgresShares):
    """Answers when the gate opens; first it raises `faults`."""

    def __init__(self, world: World) -> None:
        super().__init__(world.pool)
        self.gate = asyncio.Event()
        self.faults: list[Exception] = []
        self.reads = 0

    async def read_shared(self, shares: Sequence[tuple[bytes, bytes]], to: Sequence[bytes]) -> list[SliceRow]:
        self.reads += 1
        if self.faults:
            raise self.faults.pop(0)
        await self.gate.wait()
        return await super().read_shared(shares, to)


class Hall:
    """Rooms over a sealed group of Ann, Bo and Cy, where Ann writes."""

    def __init__(self, world: World, people: list[Person], dialog: bytes) -> None:
        self.world, self.dialog = world, dialog
        self.ann, self.bo, self.cy = people
        self.shares, self.registry = GatedShares(world), Registry()
        self.rooms = Rooms(
            world.timelines,
            self.shares,
            self.registry,
            asyncio.ensure_future,
            rooms_max=9,
            sleep=lambda _s: asyncio.sleep(0),
        )

    def listen(self, person: Person) -> Listener:
        listener = Listener(person)
        self.registry.attach(listener)
        return listener

    async def say(self, share: bytes | None = None, *, session: bytes = b"1" * 32, to: Sequence[Person] = ()) -> None:
        """Append a message of Ann's, and deliver it; `to`: her share is staged for these before."""
        ann = self.ann
        if to:
            assert share is not None
            slices = [(person.device, b"for " + person.device) for person in to]
            staged = StagedSlices(
                principal=ann.principal,
                device=ann.device,
                share=share,
                dialog=self.dialog,
                session=session,
                keys_seq=0,
                slices=slices,
            )
            assert (await self.shares.stage(staged, NOW)).complete
        entry = message(self.dialog, ann, session=session, share=share)
        (verdict,) = await self.world.flush(entry)
        self.deliver(entry, verdict.seq, verdict.roster_seq)

    def deliver(self, entry: Entry, seq: int, roster_seq: int) -> None:
        body = msgspec.Raw(entry.body)
        event = TimelineEventRaw(entry.dialog, seq, entry.author, entry.device, entry.n, 0, 0, body)
        self.rooms.deliver_events((event,), roster_seq)


@pytest.fixture
async def hall(database_url: str) -> AsyncIterator[Hall]:
    world = await World.open(database_url)
    people = [await one_device_of(world) for _ in range(3)]
    hall = Hall(world, people, await world.create(DialogType.GROUP, *people, mode=Mode.SEALED))
    await hall.rooms.open(hall.dialog)
    yield hall
    await world.close()


async def test_what_comes_after_an_event_with_keys_waits_for_them(hall: Hall) -> None:
    bo, cy = hall.listen(hall.bo), hall.listen(hall.cy)
    await hall.say(new_id(), to=[hall.bo, hall.cy])
    await hall.say()
    assert (bo.got, cy.got) == ([], [])
    hall.shares.gate.set()
    await hall.rooms.wait_settled()
    for listener, person in ((bo, hall.bo), (cy, hall.cy)):
        assert listener.got == [b"for " + person.device, 2, 3]
    assert hall.shares.reads == 1


async def test_other_dialogs_do_not_wait_for_keys(hall: Hall) -> None:
    bo = hall.listen(hall.bo)
    await hall.say(new_id(), to=[hall.bo, hall.cy])
    other = await hall.world.create(DialogType.GROUP, hall.ann, hall.bo, hall.cy)
    entry = message(other, hall.ann)
    (verdict,) = await hall.world.flush(entry)
    hall.deliver(entry, verdict.seq, verdict.roster_seq)
    await until(lambda: bool(bo.got))
    assert bo.got == [2]


async def test_a_share_that_several_events_name_is_handed_once(hall: Hall) -> None:
    bo, share = hall.listen(hall.bo), new_id()
    await hall.say(share, to=[hall.bo, hall.cy])
    await hall.say(share)
    hall.shares.gate.set()
    await hall.rooms.wait_settled()
    assert bo.got == [b"for " + hall.bo.device, 2, 3]


@pytest.mark.parametrize("faults", [1, 9])
async def test_keys_that_cannot_be_read_are_read_again_while_the_store_is_away(hall: Hall, faults: int) -> None:
    bo = hall.listen(hall.bo)
    hall.shares.faults = [StorageUnavailableError("away")] * faults
    hall.shares.gate.set()
    await hall.say(new_id(), to=[hall.bo, hall.cy])
    await hall.rooms.wait_settled()
    assert bo.got == [b"for " + hall.bo.device, 2]


async def test_keys_that_cannot_be_read_at_all_are_left_to_sessions(hall: Hall) -> None:
    bo = hall.listen(hall.bo)
    hall.shares.faults = [LookupError("a fault")] * 8
    await hall.say(new_id(), to=[hall.bo, hall.cy])
    await hall.rooms.wait_settled()
    assert bo.got == ["from 2"]


async def test_who_is_behind_or_comes_meanwhile_reads_the_keys_from_the_store(hall: Hall) -> None:
    bo = hall.listen(hall.bo)
    bo.live = False
    await hall.say(new_id(), to=[hall.bo, hall.cy])
    await until(lambda: hall.shares.reads == 1)
    cy = hall.listen(hall.cy)
    hall.shares.gate.set()
    await hall.rooms.wait_settled()
    assert (bo.got, cy.got) == (["from 2"], ["from 2"])


async def test_who_is_removed_while_keys_are_read_reads_the_rest_until_then(hall: Hall) -> None:
    bo, cy = hall.listen(hall.bo), hall.listen(hall.cy)
    await hall.say(new_id(), to=[hall.bo, hall.cy])
    await until(lambda: hall.shares.reads == 1)
    removed = await hall.world.act(MemberRemoved, hall.dialog, hall.ann, hall.cy)
    (event,) = removed.events
    hall.rooms.deliver_last(event, hall.cy.principal)
    hall.rooms.deliver_events((event,), removed.verdict.roster_seq)
    hall.shares.gate.set()
    await hall.rooms.wait_settled()
    assert bo.got == [b"for " + hall.bo.device, 2, 3]
    assert cy.got == ["from 2"]
