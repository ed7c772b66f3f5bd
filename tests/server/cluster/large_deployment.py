"""Two nodes that write and one that reads, with dialogs that grow and shrink, under faults; all but the stores is real.

An event is due to a session of the reading node when it was committed after the session's snapshot, and its person may
see it. `judge` says that no position of that node is past an event that is due.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any, cast

import msgspec

from protocol import bodies as b
from protocol.bodies import TimelineEventRaw
from protocol.close_codes import CloseCode
from protocol.dialog_types import DialogType
from server.cluster.large_rooms import LargeRooms
from server.cluster.links import Links
from server.cluster.messages import NodeTick, decode_message
from server.cluster.peers import Peers
from server.cluster.publisher import Publisher
from server.cluster.receiver import Receiver
from server.cluster.whereabouts import Whereabouts
from server.delivery.prepared_message import PreparedEvents
from server.delivery.presence import Presence
from server.delivery.registry import Registry
from server.delivery.resequencer import Resequencer
from server.delivery.rooms import Rooms
from server.delivery.routing import Router
from server.writing.durable import DurableEvents
from server.writing.horizon import Horizon
from storage.bus import ConnectionKey, Located
from storage.local.network import LocalBus, LocalPresence
from storage.rows import ChangeEntry, ClusterReading, DialogRoster, IncarnationRow, WrittenRow
from tests.support.clock import ManualClock
from tests.support.no_shares import NO_SHARES
from tests.support.stamps import drawing

READER, WRITERS, EPOCH = 2, (1, 3), 1
PEOPLE = [bytes([number]) * 16 for number in range(1, 9)]
DIALOGS = [bytes([number]) * 16 for number in (101, 102, 103, 104, 105)]
decode_body = msgspec.msgpack.Decoder(b.AnyBody).decode
LARGE_ABOVE = 3
"""Of this deployment, whose people are few."""


class SlowPresence(LocalPresence):
    """A store whose answers take a while. `cut_off`: what is put does not reach it."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self.cut_off = False
        self._rng = rng

    async def put(self, keys: Sequence[ConnectionKey]) -> str:
        await pause(self._rng, 12)
        token = "" if self.cut_off else await super().put(keys)
        await pause(self._rng, 4)
        return token

    async def locate(self, principals: Sequence[bytes]) -> Located:
        await pause(self._rng, 4)
        located = await super().locate(principals)
        await pause(self._rng, 4)
        return located


class Timeline:
    """A dialog: its rows, its members, and what each person sees. `large` are those whose membership is marked so."""

    def __init__(self, dialog: bytes, members: Sequence[bytes]) -> None:
        self.dialog = dialog
        self.lock = asyncio.Lock()
        self.rows: list[tuple[int, WrittenRow]] = []
        """By the writer."""
        self.members = dict.fromkeys(members, 1)
        self.large: set[bytes] = set()
        self.roster_seq = 1
        self.visible: dict[bytes, set[int]] = {who: set() for who in PEOPLE}

    def choose(self, rng: random.Random) -> b.Body | None:
        """What is written next; None is content."""
        who = rng.choice(PEOPLE)
        if rng.random() < 0.6 or (who in self.members and len(self.members) == 1):
            return None
        return b.MemberRemoved(who) if who in self.members else b.MembersAdded([who])

    def commit(self, writer: int, body: b.Body | None, stamp: int) -> tuple[WrittenRow, set[bytes]]:
        """Append an event; returns its row, and who sees it."""
        seq, before = len(self.rows) + 1, set(self.members)
        match body:
            case b.MembersAdded(members=[who]):
                self.members[who] = self.roster_seq = seq
                if len(self.members) > LARGE_ABOVE:
                    self.large |= set(self.members)
            case b.MemberRemoved(member=who):
                self.roster_seq = seq
                del self.members[who]
                self.large.discard(who)
        raw = b"\x91\x05" if body is None else msgspec.msgpack.encode(body)
        event = TimelineEventRaw(self.dialog, seq, self.dialog, self.dialog, seq, 0, 0, msgspec.Raw(raw))
        row = WrittenRow(event, self.roster_seq, max(stamp, self.rows[-1][1].stamp if self.rows else 0))
        self.rows.append((writer, row))
        seen_by = before | set(self.members)
        for who in seen_by:
            self.visible[who].add(seq)
        return row, seen_by


class Reader:
    """A session that is its own outbox; what it is told to read it has read at once, and no more than that."""

    def __init__(self, principal: bytes, dialogs: dict[bytes, Timeline]) -> None:
        self.principal, self.device, self.sign_in = principal, principal, principal
        self.outbox: Any = self
        self.live = False
        self.due: dict[tuple[bytes, int], int] = {}
        self._dialogs = dialogs

    def push_events(self, prepared: PreparedEvents) -> None:
        for event in prepared.events:
            assert event.seq in self._dialogs[event.dialog].visible[self.principal]
            self.due.pop((event.dialog, event.seq), None)

    def read_from(self, dialog: bytes, seq: int) -> None:
        self.due = {of: stamp for of, stamp in self.due.items() if of[0] != dialog or of[1] < seq}

    def close(self, code: CloseCode, reason: str = "") -> None:
        raise AssertionError((code, reason))


class Writer:
    """A node that writes; `unpublished` are the stamps of what it has committed and not handed over yet."""

    def __init__(self, incarnation: int, deployment: LargeDeployment) -> None:
        self.incarnation = incarnation
        self.links = Links(deployment.bus, incarnation=incarnation)
        self.links.keep([READER])
        rooms = Rooms(cast("Any", deployment), NO_SHARES, Registry(), asyncio.ensure_future, rooms_max=9)
        self.publisher = Publisher(deployment.store, self.links, rooms, get_epoch=lambda: EPOCH)
        self.unpublished: set[int] = set()

    def take(self, raw: bytes) -> None:
        tick = decode_message(raw)
        assert isinstance(tick, NodeTick)
        self.links.note_presence(READER, tick.token, registers_rooms=tick.registers_rooms)


class LargeDeployment:
    """All of it; it stands in for the journal, the timelines and the leases."""

    def __init__(self, seed: int) -> None:
        rng = self.rng = random.Random(seed)
        self.store, self.bus = SlowPresence(rng), LocalBus()
        clock = self.clock = ManualClock()
        self.dialogs = {dialog: Timeline(dialog, rng.sample(PEOPLE, 3)) for dialog in DIALOGS}
        for timeline in self.dialogs.values():
            timeline.commit(WRITERS[0], None, 1)
        self.next_stamp = 2
        self.uncommitted: set[int] = set()
        self.writers = [Writer(incarnation, self) for incarnation in WRITERS]
        itself = cast("Any", self)
        self.registry = Registry()
        self.rooms = Rooms(
            itself, NO_SHARES, self.registry, asyncio.ensure_future, rooms_max=2, sleep=lambda _s: pause(rng, 8)
        )
        router = Router(self.rooms, Presence(self.registry, clock))
        self.resequencer = Resequencer(
            itself,
            router.deliver,
            self.rooms.leave_to_sessions,
            lambda: self.peers.floor,
            asyncio.ensure_future,
            dialogs_max=2,
            sleep=lambda _s: pause(rng, 8),
        )
        waits = self.resequencer.wait_settled, self._wait_grown, self.rooms.wait_settled
        self.horizon = Horizon(itself, itself, clock, *waits, epoch=EPOCH, incarnation=READER)
        self.peers = Peers(
            itself, self.resequencer, self.horizon, itself, clock, incarnation=READER, begin_epoch=lambda _epoch: None
        )
        self.links = Links(self.bus, incarnation=READER)
        self.links.keep(WRITERS)
        self.receiver = Receiver(
            self.peers,
            self.links,
            lambda _: None,
            is_whole=lambda: bool(self.whereabouts.token),
            get_epoch=lambda: EPOCH,
        )
        self.whereabouts = Whereabouts(
            self.store, clock, self.receiver.doubt_all, draw_stamp=drawing(), incarnation=READER
        )
        self.large = LargeRooms(
            self.whereabouts,
            itself,
            self.rooms,
            self.resequencer.read_to_head,
            registry=self.registry,
            spawn=asyncio.ensure_future,
            clock=clock,
        )
        self.registry.on_detach = self.large.leave
        router.on_growth = self.large.note_growth
        self.rooms.is_nobody_here = self.large.is_nobody_here
        self.readers: dict[bytes, Reader] = {}
        self.looks_whole = 0
        self._looking = asyncio.Lock()

    @property
    def oldest_open(self) -> int:
        return min(self.uncommitted, default=self.next_stamp)

    # -- the journal, the timelines, the leases

    async def read_cluster(self, *, incarnation: int, since: int, recent_since: int) -> ClusterReading:
        assert (incarnation, since >= 0) == (READER, True)
        recent = min((each for each in self.uncommitted if each >= recent_since), default=self.next_stamp)
        await pause(self.rng)
        others = tuple(IncarnationRow(each, "writer", 1, ended=False) for each in WRITERS)
        reading = ClusterReading(self.oldest_open, self.next_stamp, recent, EPOCH, others)
        await pause(self.rng)
        return reading

    async def read_written(
        self, incarnations: Sequence[int], since: int, before: int, *, after: tuple[int, bytes, int]
    ) -> list[WrittenRow]:
        assert after[0] == 0
        await pause(self.rng)
        rows = [row for each in self.dialogs.values() for who, row in each.rows if who in incarnations]
        found = [row for row in rows if since <= row.stamp < before]
        await pause(self.rng)
        return sorted(found, key=lambda row: (row.stamp, row.event.dialog, row.event.seq))

    async def read_rows(self, dialog: bytes, first: int, last: int) -> list[WrittenRow]:
        await pause(self.rng)
        found = [row for _, row in self.dialogs[dialog].rows[first - 1 : last]]
        await pause(self.rng)
        return found

    async def find_unseen(self, heads: Sequence[tuple[bytes, int]], since: int) -> list[int]:
        await pause(self.rng)
        return [
            next((row.event.seq for _, row in self.dialogs[dialog].rows[:seq] if row.stamp >= since), seq + 1)
            for dialog, seq in heads
        ]

    async def find_large(self, principal: bytes, *, after: bytes) -> list[bytes]:
        await pause(self.rng)
        found = [each.dialog for each in self.dialogs.values() if principal in each.large and each.dialog > after]
        await pause(self.rng)
        return found

    async def read_size(self, dialog: bytes) -> tuple[int, int]:
        await pause(self.rng)
        found = self.dialogs[dialog].roster_seq, len(self.dialogs[dialog].members)
        await pause(self.rng)
        return found

    async def find_removed(self, dialog: bytes, after: int, until: int) -> dict[bytes, int]:
        await pause(self.rng)
        events = [row.event for _, row in self.dialogs[dialog].rows[after:until]]
        changes = [(event.seq, decode_body(event.body)) for event in events]
        return {change.member: seq for seq, change in changes if isinstance(change, b.MemberRemoved)}

    async def read_roster(self, dialog: bytes) -> DialogRoster:
        await pause(self.rng)
        timeline = self.dialogs[dialog]
        found = DialogRoster(DialogType.GROUP, timeline.roster_seq, dict(timeline.members))
        await pause(self.rng)
        return found

    def watch(self, _reading: object) -> None: ...

    # -- what happens

    async def run(self, steps: int) -> None:
        """So many random steps, then rest; at the end nothing is due."""
        await self.peers.look()  # before any session is here
        work: list[asyncio.Future[None]] = [asyncio.ensure_future(each.publisher.run()) for each in self.writers]
        receivers = {each.incarnation: each.take for each in self.writers} | {READER: self.receiver.deliver}
        for incarnation, deliver in receivers.items():
            lost = self.receiver.doubt_all if incarnation == READER else _ignore
            work.append(asyncio.ensure_future(self.bus.receive(incarnation, deliver, lost)))
        doings = [self.write] * 6 + [self.arrive, self.leave] * 2 + [self.check, self.fault]
        doings += [self.tick, self.look] * 4
        for _ in range(steps):
            work.append(asyncio.ensure_future(self.rng.choice(doings)()))
            await pause(self.rng)
            for each in [each for each in work if each.done()]:
                work.remove(each)
                each.result()
            self.judge()
        await self.rest()
        for each in work:
            each.cancel()
        await asyncio.wait(work)

    def judge(self) -> None:
        """No position is past what is due."""
        for reader in self.readers.values():
            assert [of for of, stamp in reader.due.items() if stamp < self.horizon.reached] == []
        self.looks_whole += not self.peers.in_doubt

    async def rest(self) -> None:
        """Let all faults end and all be delivered."""
        for _ in range(40):
            await self.check()
            await self.look()
            await self.tick()
            for _ in range(20):
                await asyncio.sleep(0)
            self.judge()
        assert [reader.due for reader in self.readers.values() if reader.due] == []

    async def write(self) -> None:
        timeline, writer = self.rng.choice(list(self.dialogs.values())), self.rng.choice(self.writers)
        async with timeline.lock:
            stamp, self.next_stamp = self.next_stamp, self.next_stamp + 1
            self.uncommitted.add(stamp)
            await pause(self.rng, self.rng.choice([1, 1, 4, 40]))
            body = timeline.choose(self.rng)
            row, seen_by = timeline.commit(writer.incarnation, body, stamp)
            self.uncommitted.remove(stamp)
            writer.unpublished.add(row.stamp)
        for reader in self.readers.values():
            if reader.live and reader.principal in seen_by:
                reader.due[timeline.dialog, row.event.seq] = row.stamp
        entry = None if body is None else ChangeEntry(timeline.dialog, timeline.dialog, timeline.dialog, 1, body)
        count = len(timeline.members)  # as of the event: nothing else has run since
        await pause(self.rng, self.rng.choice([1, 1, 4, 40]))
        writer.publisher.publish([DurableEvents(timeline.dialog, (row.event,), row.roster_seq, entry, count)])
        writer.unpublished.remove(row.stamp)

    async def arrive(self) -> None:
        who = self.rng.choice(PEOPLE)
        if who in self.readers:
            return
        reader = self.readers[who] = Reader(who, self.dialogs)
        self.registry.attach(reader)
        await self.large.arrive(reader, who)
        reader.live = True  # its snapshot: what commits from now on is due

    async def leave(self) -> None:
        reader = self.readers.pop(self.rng.choice(PEOPLE), None)
        if reader is not None:
            self.registry.detach(reader)

    async def tick(self) -> None:
        for writer in self.writers:
            horizon = min([self.oldest_open, *writer.unpublished])
            await writer.publisher.wait_settled()
            writer.links.tick(EPOCH, horizon, "")
        self.links.tick(EPOCH, 0, self.whereabouts.token)

    async def check(self) -> None:
        await self.whereabouts.check()
        self.large.drop_empty()

    async def look(self) -> None:
        async with self._looking:
            await self.peers.look()

    async def fault(self) -> None:
        if self.rng.random() < 0.9:
            return
        match self.rng.randrange(4):
            case 0:
                self.store.wipe()
            case 1:
                self.store.away = True
                await pause(self.rng, 40)
                self.store.away = False
            case 2:
                self.store.cut_off = True
                await pause(self.rng, 40)
                self.store.cut_off = False
            case _:
                self.bus.lose()

    async def _wait_grown(self) -> None:
        await self.large.wait_settled()
        await self.resequencer.wait_settled()


async def pause(rng: random.Random, turns: int = 4) -> None:
    """Let others run, for less than so many turns of the loop."""
    for _ in range(rng.randrange(turns)):
        await asyncio.sleep(0)


def _ignore() -> None: ...
