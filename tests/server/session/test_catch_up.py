"""Catch-up on a socket that takes little: what is read waits for what was written."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence

import msgspec
import pytest

from protocol.bodies import TimelineEventRaw
from protocol.dialog_types import DialogType
from protocol.events import DialogState, KeySlices
from protocol.ids import new_id
from server.busyness import Busyness
from server.clock import SystemClock
from server.config.settings import SessionSettings
from server.delivery.flush_turn import FlushTurn
from server.delivery.outbox import Outbox
from server.delivery.prepared_message import PreparedEvents
from server.session import catch_up as module
from server.session.catch_up import CatchUp, Plan
from storage.postgres.archived_timelines import ArchivedTimelines
from storage.postgres.dialog_states import PAGE_DIALOGS
from storage.postgres.shares import PostgresShares
from storage.postgres.timelines import PostgresTimelines
from storage.rows import DialogRow
from storage.shares import Shares, SliceRow
from storage.unavailable import StorageUnavailableError
from tests.support.archiving import ArchiveThatMayBeAway, drop_rows, moving
from tests.support.filling import add_dialogs, add_members, add_messages
from tests.support.turns import until
from tests.support.world import Person, World, message, reaction

pytestmark = pytest.mark.anyio

PAGE_EVENTS = 50


class SlowOutbox(Outbox):
    """The outbox of a socket that is full after each write, until the test takes what was written."""

    __slots__ = ("paused", "pushed")

    def __init__(self, **settings: int) -> None:
        self.paused = False
        self.pushed: list[msgspec.Struct] = []
        turn = FlushTurn(asyncio.get_running_loop(), Busyness(SystemClock()))
        super().__init__(self, self, turn, SessionSettings(**settings), SystemClock(), text=False)

    def push(self, message: msgspec.Struct) -> None:
        self.pushed.append(message)
        super().push(message)

    def push_all(self, messages: Sequence[msgspec.Struct]) -> None:
        self.pushed += messages
        super().push_all(messages)

    def push_page(self, page: PreparedEvents) -> None:
        self.pushed += page.events
        super().push_page(page)

    def write(self, _data: bytes) -> None:
        self.paused = True

    def fell_behind(self) -> None:
        raise AssertionError("nothing is live here")

    def drained(self) -> None:
        """No mailbox waits."""

    def owe_position(self) -> None:
        """No position is sent."""

    def take(self) -> list[msgspec.Struct]:
        """Take what the catch-up has pushed; the socket takes one more write."""
        taken, self.pushed = self.pushed, []
        self.paused = False
        self.writable()
        return taken


class LateSlices(PostgresShares):
    """The store of shares, in which these slices become live after a catch-up has looked for the first time."""

    def __init__(self, world: World, slices: list[SliceRow]) -> None:
        super().__init__(world.pool)
        self._due: list[list[SliceRow]] = [[], slices]

    async def read(self, device: bytes, *, after: int, limit: int) -> list[SliceRow]:
        return self._due.pop(0) if self._due else await super().read(device, after=after, limit=limit)


async def pushed_between_drains(
    world: World, who: Person, window: int, since: int | None = None, shares: Shares | None = None
) -> list[list[msgspec.Struct]]:
    """What a whole catch-up pushes each time, before it waits for the socket."""
    snapshot = await world.timelines.take_snapshot(who.principal, who.sign_in, since, window=window, events_max=9)
    assert snapshot.recovered is (since is not None)
    outbox = SlowOutbox()
    catch_up = CatchUp(world.timelines, shares or PostgresShares(world.pool), SystemClock(), page_events=PAGE_EVENTS)
    plan = Plan(snapshot)
    plan.slices = plan.slices or shares is not None
    running = asyncio.ensure_future(catch_up.run(outbox, who.principal, who.device, plan))
    parts = []
    while not running.done():
        await until(lambda: running.done() or (outbox._drained is not None and not outbox._drained.done()))
        parts.append(outbox.take())
    assert running.result()
    return parts


async def test_a_page_of_events_is_read_when_the_one_before_is_written(world: World) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    await add_messages(world.pool, dialog, bo, 500)
    parts = await pushed_between_drains(world, ann, 1000)
    seqs = [[event.seq for event in part if isinstance(event, TimelineEventRaw)] for part in parts]
    assert max(len(part) for part in seqs) == PAGE_EVENTS
    assert [seq for part in seqs for seq in part] == list(range(1, 502))


async def test_states_leave_with_the_first_page_of_their_events(world: World) -> None:
    ann, *others = await world.people(4)
    dialogs = {await world.create(DialogType.DIRECT, ann, other) for other in others}
    [part] = await pushed_between_drains(world, ann, 10)
    assert {each.dialog for each in part[:3] if isinstance(each, DialogState)} == dialogs
    assert {each.dialog for each in part[3:] if isinstance(each, TimelineEventRaw)} == dialogs


async def test_states_are_sent_when_their_events_cannot_be_read(world: World) -> None:
    ann, bo = await world.people(2)
    await world.create(DialogType.DIRECT, ann, bo)
    taken = await world.timelines.take_snapshot(ann.principal, ann.sign_in, None, window=9, events_max=9)

    class NoEvents(PostgresTimelines):
        async def read_events(self, *_: object, **__: object) -> list[TimelineEventRaw]:
            raise StorageUnavailableError("away")

    catch_up = CatchUp(NoEvents(world.pool), PostgresShares(world.pool), SystemClock(), page_events=PAGE_EVENTS)
    outbox = SlowOutbox()
    with pytest.raises(StorageUnavailableError):
        await catch_up.run(outbox, ann.principal, ann.device, Plan(taken))
    assert len(outbox.pushed) == 1


async def test_who_lacks_nothing_is_live_at_once(world: World) -> None:
    """Not who lacks something, missed something meanwhile, or does not take what is written."""
    ann, bo, cy = await world.people(3)
    await world.create(DialogType.DIRECT, ann, bo)
    catch_up = CatchUp(world.timelines, PostgresShares(world.pool), SystemClock(), page_events=PAGE_EVENTS)

    async def is_at_once(who: Person, since: int | None, outbox: SlowOutbox, *, slices: bool = False) -> bool:
        taken = await world.timelines.take_snapshot(who.principal, who.sign_in, since, window=9, events_max=9)
        plan = Plan(taken)
        plan.slices = slices
        assert catch_up.try_at_once(outbox, plan) is outbox.live
        return outbox.live

    horizon = (await world.timelines.take_snapshot(ann.principal, ann.sign_in, None, window=9, events_max=9)).horizon
    missed, stuck = SlowOutbox(), SlowOutbox()
    missed.read_from(new_id(), 1)
    stuck.paused = True
    assert [await is_at_once(ann, horizon, each) for each in (SlowOutbox(), missed, stuck)] == [True, False, False]
    assert [await is_at_once(who, None, SlowOutbox()) for who in (ann, cy)] == [False, True]
    assert not await is_at_once(cy, None, SlowOutbox(), slices=True)
    assert (catch_up.begun, catch_up.running) == ({"resumed": 1, "windowed": 1, "behind": 0}, 0)


async def events_and_firsts(
    world: World, who: Person, since: int | None = None
) -> tuple[dict[bytes, int], dict[bytes, list[int]]]:
    """The `first_seq` that counts of each dialog after a catch-up, and the numbers that came."""
    firsts: dict[bytes, int] = {}
    seqs: dict[bytes, list[int]] = {}
    for each in itertools.chain(*await pushed_between_drains(world, who, 1000, since)):
        if isinstance(each, DialogState):
            firsts[each.dialog] = each.first_seq
        elif isinstance(each, TimelineEventRaw):
            seqs.setdefault(each.dialog, []).append(each.seq)
    return firsts, seqs


async def test_while_the_archive_is_away_windows_begin_with_what_the_journal_has(
    world: World, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it has nothing; only the first round tries to read the archive."""
    monkeypatch.setattr(module, "_DIALOGS_PER_ROUND", 1)
    archive = ArchiveThatMayBeAway()
    world.timelines = ArchivedTimelines(world.pool, archive, timeout_s=30.0)
    ann, *others = await world.people(4)
    *quiet, busy = [await world.create(DialogType.DIRECT, ann, each) for each in others]
    async with moving(database_url, archive) as mover:
        for dialog in (*quiet, busy):
            await world.flush(*(message(dialog, ann) for _ in range(6)))
            if dialog == busy:
                await world.flush(reaction(busy, ann, 7))
            await mover.move()
            await drop_rows(world, dialog, 1, 7)
    horizon = (await world.journal.read_horizon(incarnation=world.incarnation)).horizon
    await world.say(busy, ann)
    whole = {busy: list(range(1, 10))} | {dialog: list(range(1, 8)) for dialog in quiet}
    assert await events_and_firsts(world, ann) == (dict.fromkeys(whole, 1), whole)
    archive.answers = 0
    reads = archive.reads
    assert await events_and_firsts(world, ann) == ({busy: 8} | dict.fromkeys(quiet, 8), {busy: [8, 9]})
    assert archive.reads == reads + 1
    assert await events_and_firsts(world, ann, horizon) == ({busy: 9}, {busy: [9]})


async def test_a_window_that_begins_later_is_sent_the_keys_that_came_since(world: World, database_url: str) -> None:
    """The events that brought them are left out; what comes after those may be under the same keys."""
    archive = ArchiveThatMayBeAway()
    world.timelines = ArchivedTimelines(world.pool, archive, timeout_s=30.0)
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    await world.flush(*(message(dialog, bo) for _ in range(6)))
    async with moving(database_url, archive) as mover:
        await mover.move()
    await drop_rows(world, dialog, 1, 7)
    await world.say(dialog, bo)
    archive.answers = 0
    came = SliceRow(ann.device, 1, bo.principal, bo.device, dialog, bytes(16), bytes(32), 1, b"keys")
    pushed = list(itertools.chain(*await pushed_between_drains(world, ann, 1000, shares=LateSlices(world, [came]))))
    kinds = [type(each) for each in pushed if isinstance(each, KeySlices | TimelineEventRaw)]
    assert kinds == [KeySlices, TimelineEventRaw]


async def test_a_window_that_has_begun_is_not_cut(world: World, database_url: str) -> None:
    """The archive goes away between two pages: this catch-up fails, and the next one begins later."""
    archive = ArchiveThatMayBeAway()
    world.timelines = ArchivedTimelines(world.pool, archive, timeout_s=30.0)
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    await add_messages(world.pool, dialog, bo, 3 * PAGE_EVENTS)
    async with moving(database_url, archive) as mover:
        await mover.move()
    await drop_rows(world, dialog, 1, 2 * PAGE_EVENTS)
    archive.answers = 1
    with pytest.raises(StorageUnavailableError):
        await pushed_between_drains(world, ann, 1000)
    firsts, seqs = await events_and_firsts(world, ann)
    assert (firsts, seqs) == ({dialog: 3 * PAGE_EVENTS + 2}, {})


async def test_states_are_read_a_few_at_a_time_and_a_snapshot_page_by_page(world: World) -> None:
    ann = await world.person()
    await add_dialogs(world.pool, ann, 2 * PAGE_DIALOGS + 1)
    await world.pool.execute("UPDATE heads SET seq = 0, messages = 0")
    parts = await pushed_between_drains(world, ann, 10)
    assert max(len(part) for part in parts) <= 50
    states = {state.dialog for part in parts for state in part if isinstance(state, DialogState)}
    assert len(states) == 2 * PAGE_DIALOGS + 1


async def test_states_with_many_members_come_fewer_at_a_time(world: World) -> None:
    ann, bo, cy = await world.people(3)
    for _ in range(25):
        await add_members(world.pool, await world.create(DialogType.GROUP, ann, bo, cy), 90)
    parts = await pushed_between_drains(world, ann, 10)
    listed = [[len(state.members) for state in part if isinstance(state, DialogState)] for part in parts]
    assert [members for part in listed for members in part] == [93] * 25
    assert max(sum(part) for part in listed) <= 1000


class BusyTimelines(PostgresTimelines):
    """Calls `meanwhile` before each read of states, with what is read."""

    def __init__(self, world: World, meanwhile: Callable[[Sequence[bytes]], Awaitable[None]]) -> None:
        super().__init__(world.pool)
        self._meanwhile = meanwhile

    async def read_dialogs(self, principal: bytes, dialogs: Sequence[bytes]) -> list[DialogRow]:
        await self._meanwhile(dialogs)
        return await super().read_dialogs(principal, dialogs)


def arrive(outbox: Outbox, dialog: bytes, seq: int) -> None:
    event = TimelineEventRaw(dialog, seq, new_id(), new_id(), 1, 0, 0, msgspec.Raw(b"\x91\x05"))
    outbox.push_events(PreparedEvents([event]))


async def caught_up(world: World, who: Person, timelines: PostgresTimelines, outbox: SlowOutbox) -> list[int]:
    """The numbers of all events that are pushed to an outbox which has missed something, until it is live."""
    catch_up = CatchUp(timelines, PostgresShares(world.pool), SystemClock(), page_events=PAGE_EVENTS)
    running = asyncio.ensure_future(catch_up.run(outbox, who.principal, who.device, Plan()))
    pushed: list[msgspec.Struct] = []
    while not running.done():
        await until(lambda: running.done() or (outbox._drained is not None and not outbox._drained.done()))
        pushed += outbox.take()
    assert running.result()
    assert outbox.live
    return [each.seq for each in pushed if isinstance(each, TimelineEventRaw)]


async def test_what_was_sent_is_not_sent_again_after_too_much_was_held(world: World) -> None:
    """What comes while the state is read, and is in it, is held first, and then too much: it is noted as missed."""
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    await world.flush(*(message(dialog, bo) for _ in range(4)))
    outbox = SlowOutbox(held_frames_max=1)
    outbox.read_from(dialog, 3)
    rounds = 0

    async def come(_dialogs: Sequence[bytes]) -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 1:
            for verdict in await world.flush(message(dialog, bo), message(dialog, bo)):
                arrive(outbox, dialog, verdict.seq)

    assert await caught_up(world, ann, BusyTimelines(world, come), outbox) == [3, 4, 5, 6, 7]
    assert rounds == 2


async def test_who_waits_for_a_turn_holds_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much comes before that, one round is enough."""
    monkeypatch.setattr(module, "_ROUNDS_AT_ONCE", 1)
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    first, second = (SlowOutbox(held_frames_max=1) for _ in range(2))
    seen: list[Sequence[bytes]] = []
    entered, gate = asyncio.Event(), asyncio.Event()

    async def wait(dialogs: Sequence[bytes]) -> None:
        seen.append(dialogs)
        entered.set()
        await gate.wait()

    catch_up = CatchUp(BusyTimelines(world, wait), PostgresShares(world.pool), SystemClock(), page_events=PAGE_EVENTS)
    for outbox in (first, second):
        outbox.read_from(dialog, 2)
    runs = [asyncio.ensure_future(catch_up.run(it, ann.principal, ann.device, Plan())) for it in (first, second)]
    await entered.wait()
    for verdict in await world.flush(*(message(dialog, bo) for _ in range(3))):
        arrive(second, dialog, verdict.seq)
    gate.set()
    while not all(run.done() for run in runs):
        for outbox in (first, second):
            outbox.paused = False
            outbox.writable()
        await asyncio.sleep(0)
    assert [[each.seq for each in it.pushed if isinstance(each, TimelineEventRaw)] for it in (first, second)] == [
        [2, 3, 4]
    ] * 2
    assert seen == [[dialog]] * 2


async def test_what_was_missed_in_many_dialogs_is_read_a_few_at_a_time(world: World) -> None:
    """The others stay missed meanwhile: what comes in them is not held."""
    ann, *others = await world.people(13)
    dialogs = [await world.create(DialogType.DIRECT, ann, other) for other in others]
    outbox = SlowOutbox(held_frames_max=1)
    for dialog in dialogs:
        outbox.read_from(dialog, 1)
    seen: list[int] = []

    async def come(read: Sequence[bytes]) -> None:
        seen.append(len(read))
        if len(seen) == 1:
            for dialog, other in zip(dialogs[10:], others[10:], strict=True):
                arrive(outbox, dialog, (await world.say(dialog, other)).seq)

    assert await caught_up(world, ann, BusyTimelines(world, come), outbox) == [1] * 10 + [1, 2] * 2
    assert seen == [10, 2]
