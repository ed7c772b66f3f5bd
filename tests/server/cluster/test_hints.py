"""Publisher, presence and receiver together, under faults: a horizon is believed only when nothing is missing.

Node 1 writes rows for people of whom some are connected to node 2. A row is due there when it was committed after the
snapshot of a session that is still there.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any, cast

import msgspec
import pytest

from protocol.bodies import TimelineEventRaw
from protocol.dialog_types import DialogType
from server.cluster.links import Links
from server.cluster.messages import NodeTick, decode_message
from server.cluster.peers import Peers
from server.cluster.publisher import Publisher
from server.cluster.receiver import Receiver
from server.cluster.whereabouts import Whereabouts
from server.delivery.registry import Registry
from server.delivery.rooms import Rooms
from server.writing.durable import DurableEvents
from storage.bus import ConnectionKey, Located
from storage.local.network import LocalBus, LocalPresence
from storage.rows import ClusterReading, DialogRoster, IncarnationRow, WrittenRow
from tests.support.clock import ManualClock
from tests.support.no_shares import NO_SHARES
from tests.support.stamps import drawing

pytestmark = pytest.mark.anyio

PEOPLE = [bytes([number]) * 16 for number in range(8)]
WRITER, READER = 1, 2
EPOCH = 1


class SlowPresence(LocalPresence):
    """A store whose answers take a while, before and after it has done what was asked.

    `cut_off`: what the reading node puts does not reach it.
    """

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self.cut_off = False
        self._rng = rng

    async def put(self, keys: Sequence[ConnectionKey]) -> str:
        await self.wait()
        token = "" if self.cut_off else await super().put(keys)
        await self.wait()
        return token

    async def locate(self, principals: Sequence[bytes]) -> Located:
        await self.wait()
        located = await super().locate(principals)
        await self.wait()
        return located

    async def wait(self) -> None:
        for _ in range(self._rng.randrange(3)):
            await asyncio.sleep(0)


class Rosters:
    """Each dialog has one member, who has its id."""

    async def read_roster(self, dialog: bytes) -> DialogRoster:
        return DialogRoster(DialogType.SELF, 1, {dialog: 1})


class Deployment:
    """Two nodes on one journal. It stands in for what `Peers` of the reading node reads and delivers with."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.store, self.bus = SlowPresence(self.rng), LocalBus()
        rooms = Rooms(cast("Any", Rosters()), NO_SHARES, Registry(), asyncio.ensure_future, rooms_max=100)
        self.writer = Links(self.bus, incarnation=WRITER)
        self.writer.keep([READER])
        self.publisher = Publisher(self.store, self.writer, rooms, get_epoch=lambda: EPOCH)
        clock = ManualClock()
        itself = cast("Any", self)
        self.epoch, self.round = EPOCH, 0
        self.peers = Peers(itself, itself, itself, itself, clock, incarnation=READER, begin_epoch=lambda _epoch: None)
        self.reader = Links(self.bus, incarnation=READER)
        self.reader.keep([WRITER])
        self.receiver = Receiver(
            self.peers,
            self.reader,
            lambda _: None,
            is_whole=lambda: bool(self.whereabouts.token),
            get_epoch=lambda: EPOCH,
        )
        self.whereabouts = Whereabouts(
            self.store, clock, self.receiver.doubt_all, draw_stamp=drawing(), incarnation=READER
        )
        self.next_stamp = 1
        self.uncommitted: set[int] = set()
        self.journal: dict[int, TimelineEventRaw] = {}
        self.here: set[bytes] = set()
        self.due: dict[int, bytes] = {}
        self.rounds_whole = 0

    @property
    def oldest_open(self) -> int:
        return min(self.uncommitted, default=self.next_stamp)

    # -- what `Peers` uses: the journal, the delivery here, the horizon, the leases

    async def read_cluster(self, *, incarnation: int, since: int, recent_since: int) -> ClusterReading:
        assert incarnation == READER
        assert since >= 0
        await self.store.wait()
        writer = IncarnationRow(WRITER, "writer", 1, ended=False)
        recent = min((stamp for stamp in self.uncommitted if stamp >= recent_since), default=self.next_stamp)
        reading = ClusterReading(self.oldest_open, self.next_stamp, recent, EPOCH, (writer,))
        await self.store.wait()
        return reading

    async def read_written(
        self, incarnations: Sequence[int], since: int, before: int, *, after: tuple[int, bytes, int]
    ) -> list[WrittenRow]:
        assert (list(incarnations), after[0]) == ([WRITER], 0)
        await self.store.wait()
        stamps = sorted(stamp for stamp in self.journal if since <= stamp < before)
        return [WrittenRow(self.journal[stamp], 1, stamp) for stamp in stamps]

    def take(self, event: TimelineEventRaw, _roster_seq: int) -> None:
        self.due.pop(event.seq, None)

    async def settle(self, *_reading: object, **_more: object) -> None:
        await self.store.wait()

    async def nothing(self, *_arguments: object) -> None: ...

    def watch(self, *_arguments: object) -> None: ...

    open = nothing
    forget_before = watch

    # -- what happens

    async def run(self, steps: int) -> None:
        await self.peers.look()  # before any session is here
        self.work = [
            asyncio.ensure_future(each)
            for each in (
                self.publisher.run(),
                self.bus.receive(READER, self.receiver.deliver, self.receiver.doubt_all),
                self.bus.receive(WRITER, self.take_tick, lambda: None),
            )
        ]
        doings = [self.write] * 6 + [self.arrive, self.leave, self.tick, self.tick, self.check, self.look]
        doings += [self.look, self.fault]
        for _ in range(steps):
            self.work.append(asyncio.ensure_future(self.rng.choice(doings)()))
            for _ in range(self.rng.randrange(4)):
                await asyncio.sleep(0)
            for each in [each for each in self.work if each.done()]:
                self.work.remove(each)
                each.result()
            self.judge()
        for each in self.work:
            each.cancel()
        await asyncio.wait(self.work)

    def judge(self) -> None:
        """Nothing before what is heard of the writer is still due."""
        source = self.peers._sources.get(WRITER)
        if source is not None:
            assert [stamp for stamp in self.due if stamp < source.heard] == []
            self.rounds_whole += source.whole

    def take_tick(self, raw: bytes) -> None:
        tick = decode_message(raw)
        assert isinstance(tick, NodeTick)
        self.writer.note_presence(READER, tick.token, registers_rooms=tick.registers_rooms)

    async def write(self) -> None:
        who, stamp = self.rng.choice(PEOPLE), self.next_stamp
        self.next_stamp += 1
        self.uncommitted.add(stamp)
        for _ in range(self.rng.choice([0, 1, 1, 2, 60])):
            await asyncio.sleep(0)
        self.uncommitted.remove(stamp)
        event = TimelineEventRaw(who, stamp, who, who, stamp, 0, 0, msgspec.Raw(b"\x91\x05"))
        self.journal[stamp] = event
        if who in self.here:
            self.due[stamp] = who
        self.publisher.publish([DurableEvents(who, (event,), 1, member_count=1)])

    async def arrive(self) -> None:
        who = self.rng.choice(PEOPLE)
        if who not in self.here:
            await self.whereabouts.arrive(who, who)
            self.here.add(who)  # its snapshot: what commits from now on is due

    async def leave(self) -> None:
        who = self.rng.choice(PEOPLE)
        if who in self.here:
            self.here.remove(who)
            self.whereabouts.leave(who)
            self.due = {stamp: of for stamp, of in self.due.items() if of != who}

    async def tick(self) -> None:
        horizon = self.oldest_open
        await self.publisher.wait_settled()
        self.writer.tick(EPOCH, horizon, "")
        if self.rng.random() < 0.2:
            self.reader.tick(EPOCH, 0, self.whereabouts.token)

    async def check(self) -> None:
        await self.whereabouts.check()

    async def look(self) -> None:
        if not self.looking:
            self.looking = True
            await self.peers.look()
            self.looking = False

    looking = False

    async def fault(self) -> None:
        if self.rng.random() < 0.5:
            return
        match self.rng.randrange(5):
            case 0:
                self.store.wipe()
            case 1:
                self.store.away = not self.store.away
            case 2 | 3:
                self.store.cut_off = not self.store.cut_off
            case _:
                self.bus.lose()


@pytest.mark.parametrize("first_seed", range(0, 48, 4))
async def test_a_horizon_is_believed_only_when_all_before_it_was_delivered(first_seed: int) -> None:
    rounds_whole = 0
    for seed in range(first_seed, first_seed + 4):
        deployment = Deployment(seed)
        await deployment.run(1500)
        rounds_whole += deployment.rounds_whole
    assert rounds_whole > 0
