"""One lane: what it does about a store that answers late, never, or not for everything."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from protocol import bodies
from protocol.dialog_types import DialogType
from server.writing.set_aside import DIALOGS_MAX
from storage.rows import ChangeEntry, Entry, Verdict, VerdictCode
from storage.unavailable import LockTimeoutError, NothingWrittenError, StorageUnavailableError, WriteRefusedError
from tests.support.clock import ManualClock
from tests.support.faulty import FaultyJournal
from tests.support.lanes import Lanes, lanes
from tests.support.world import Person, World, message

pytestmark = pytest.mark.anyio

OK, DUPLICATE, INTERNAL, UNAVAILABLE = (
    VerdictCode.OK,
    VerdictCode.DUPLICATE,
    VerdictCode.INTERNAL,
    VerdictCode.UNAVAILABLE,
)
LOST = StorageUnavailableError("the reply was lost")
OUT = NothingWrittenError("out of reach")


async def gathered(it: Lanes, first: Entry, *others: Entry) -> list[asyncio.Future[Verdict]]:
    """Submit entries so that all but the first are one batch."""
    it.journal.gate = asyncio.Event()
    futures = [it.submit(first)]
    await it.journal.entered.wait()
    futures += [it.submit(entry) for entry in others]
    it.journal.gate.set()
    it.journal.gate = None
    return futures


def make_deaf(it: Lanes, *dialogs: bytes, fault: Exception = LOST, stored: bool = False) -> FaultyJournal:
    """Let the journal answer no flush of these dialogs any more, though it stores their rows if `stored`."""
    journal = it.journal
    journal.asked.clear()
    journal.deaf, journal.fault, journal.stored = frozenset(dialogs), fault, stored
    return journal


async def some_dialogs(world: World, count: int) -> tuple[Person, list[bytes]]:
    ann, *others = await world.people(count + 1)
    return ann, [await world.create(DialogType.DIRECT, ann, other) for other in others]


async def test_what_a_client_repeats_is_not_delivered_again(world: World, clock: ManualClock) -> None:
    ann, (dialog,) = await some_dialogs(world, 1)
    sent = message(dialog, ann)
    change = ChangeEntry(dialog, ann.principal, ann.device, ann.n(), bodies.Deleted(2))
    async with lanes(world, clock) as it:
        codes = [(await it.submit(entry)).code for entry in (sent, sent, change, change)]
        assert codes == [OK, DUPLICATE, OK, DUPLICATE]
        assert it.routed_seqs == [2, 3]


@pytest.mark.parametrize(("share", "rests"), [(0.1, False), (1.0, True)], ids=["rests", "busy"])
async def test_after_a_small_flush_of_several_a_lane_rests_while_the_node_is_busy(
    world: World, clock: ManualClock, share: float, rests: bool
) -> None:
    ann, (last, *dialogs) = await some_dialogs(world, 4)
    async with lanes(world, clock, lanes=1) as it:
        clock.work(1.0, share=share)
        sent = await gathered(it, *(message(dialog, ann) for dialog in dialogs))
        assert [(await future).code for future in sent] == [OK, OK, OK]
        began = clock.monotonic()
        assert (await it.submit(message(last, ann))).code is OK
        assert (clock.monotonic() > began) is rests


async def test_what_the_lane_itself_repeats_is_delivered_once(world: World, clock: ManualClock) -> None:
    ann, (dialog,) = await some_dialogs(world, 1)
    change = ChangeEntry(dialog, ann.principal, ann.device, 99, bodies.Deleted(2))
    async with lanes(world, clock) as it:
        for entry in (message(dialog, ann), change):
            it.journal.after = [LOST]
            assert (await it.submit(entry)).code is DUPLICATE
        assert it.routed_seqs == [2, 3]


async def test_a_call_that_arrives_after_its_repetition_was_refused_writes_nothing(
    world: World, clock: ManualClock
) -> None:
    ann, bo, cy, di = await world.people(4)
    dialog = await world.create(DialogType.GROUP, ann, bo, di)
    sent = message(dialog, cy)
    async with lanes(world, clock) as it:
        it.journal.before = [LOST]
        assert (await it.submit(sent)).code is VerdictCode.NOT_FOUND
        await world.act(bodies.MembersAdded, dialog, ann, cy)
        with pytest.raises(NothingWrittenError):
            await world.journal.flush([sent], incarnation=world.incarnation, flush_no=1, wait=True)


async def test_a_repetition_that_finds_its_dialog_busy_is_waited_for(world: World, clock: ManualClock) -> None:
    ann, (dialog, other) = await some_dialogs(world, 2)
    async with lanes(world, clock, lanes=1) as it:
        futures = await gathered(it, message(other, ann), message(dialog, ann), message(other, ann))
        it.journal.after = [None, LOST]
        await _until_calls(it, 2)  # the batch whose reply is lost
        it.journal.gate = gate = asyncio.Event()  # holds back its repetition
        await _until_stored(world, dialog, 2)
        async with world.held(dialog):
            it.journal.gate = None
            gate.set()
            assert (await futures[2]).code is DUPLICATE
            settled = asyncio.ensure_future(it.pipeline.wait_settled())
            await _until_calls(it, 6)
            for _ in range(10):
                await asyncio.sleep(0)
            assert not settled.done(), "a position would pass what is stored and not delivered"
        assert (await futures[1]).code is DUPLICATE
        await settled
        assert sorted(it.routed_seqs) == [2, 2, 3]


async def _until_calls(it: Lanes, count: int) -> None:
    while len(it.journal.calls) < count:
        it.journal.entered.clear()
        await it.journal.entered.wait()


async def _until_stored(world: World, dialog: bytes, seq: int) -> None:
    while await world.pool.fetchval("SELECT seq FROM heads WHERE dialog_id = $1", dialog) < seq:
        pass


@pytest.mark.parametrize(
    "error",
    [asyncpg.ObjectNotInPrerequisiteStateError("55000"), WriteRefusedError("42"), KeyError("a fault of ours")],
    ids=lambda error: type(error).__name__,
)
async def test_after_a_lost_reply_no_error_is_definite(world: World, clock: ManualClock, error: Exception) -> None:
    ann, (dialog,) = await some_dialogs(world, 1)
    async with lanes(world, clock) as it:
        it.journal.after = [LOST]
        it.journal.before = [None, error]
        verdict = await it.submit(message(dialog, ann))
        assert (verdict.code, verdict.seq, it.routed_seqs) == (DUPLICATE, 2, [2])


async def test_an_error_that_may_come_after_the_commit_is_not_definite(world: World, clock: ManualClock) -> None:
    ann, (dialog,) = await some_dialogs(world, 1)
    async with lanes(world, clock) as it:
        it.journal.after = [KeyError("an answer that cannot be read")]
        assert (await it.submit(message(dialog, ann))).code is DUPLICATE


async def test_what_the_store_refuses_at_once_is_refused_alone(world: World, clock: ManualClock) -> None:
    ann, (good, bad) = await some_dialogs(world, 2)
    async with lanes(world, clock, lanes=1) as it:
        futures = await gathered(it, message(good, ann), message(bad, ann), message(good, ann))
        make_deaf(it, bad, fault=WriteRefusedError("22"))
        assert [(await future).code for future in futures] == [OK, INTERNAL, OK]
        assert it.pipeline.set_aside == 0


async def test_an_entry_without_an_answer_is_set_aside_and_strangers_go_on(world: World, clock: ManualClock) -> None:
    ann, (stuck, other) = await some_dialogs(world, 2)
    async with lanes(world, clock, lanes=1) as it:
        futures = await gathered(it, message(other, ann), message(stuck, ann), message(other, ann))
        journal = make_deaf(it, stuck, stored=True)
        assert [(await future).code for future in futures] == [OK, UNAVAILABLE, DUPLICATE]
        assert (await it.submit(message(other, ann))).code is OK
        assert (await it.submit(message(stuck, ann))).code is UNAVAILABLE  # it would overtake
        assert (it.pipeline.set_aside, it.pipeline.find_stall()) == (1, "")
        assert it.routed_seqs == [2, 3, 4]

        settled = asyncio.ensure_future(it.pipeline.wait_settled())
        for _ in range(3):
            journal.entered.clear()
            await journal.entered.wait()
        assert not settled.done()  # the horizon must not pass what is durable and not delivered
        journal.deaf = frozenset()
        await settled
        assert it.routed_seqs == [2, 3, 4, 2]
        assert it.pipeline.set_aside == 0
        assert (await it.submit(message(stuck, ann))).code is OK


async def test_what_waits_behind_an_entry_is_set_aside_with_it_in_order(world: World, clock: ManualClock) -> None:
    ann, (stuck, other) = await some_dialogs(world, 2)
    async with lanes(world, clock, lanes=1) as it:
        sent = [message(stuck, ann), message(stuck, ann)]
        futures = await gathered(it, message(other, ann), *sent, message(other, ann))
        journal = make_deaf(it, stuck)
        assert [(await future).code for future in futures] == [OK, UNAVAILABLE, UNAVAILABLE, OK]
        journal.deaf = frozenset()
        await it.pipeline.wait_drained()
        assert [(await it.submit(entry)).code for entry in sent] == [DUPLICATE] * 2
        assert it.routed_seqs == [2, 3, 2, 3]


async def test_a_head_that_somebody_holds_is_set_aside(world: World, clock: ManualClock) -> None:
    ann, (stuck, other) = await some_dialogs(world, 2)
    async with lanes(world, clock, lanes=1) as it:
        journal = make_deaf(it, stuck, fault=LockTimeoutError("55P03"))
        futures = await gathered(it, message(other, ann), message(stuck, ann), message(other, ann))
        assert [(await future).code for future in futures] == [OK, UNAVAILABLE, OK]
        journal.deaf = frozenset()
        await it.pipeline.wait_drained()
        assert (await it.submit(message(stuck, ann))).code is OK


async def test_a_database_out_of_reach_sets_nothing_aside(world: World, clock: ManualClock) -> None:
    ann, (dialog, other) = await some_dialogs(world, 2)
    async with lanes(world, clock, lanes=1, retry_total_s=3.0) as it:
        it.journal.before = [OUT] * 50
        first = it.submit(message(dialog, ann))
        assert (await first).code is UNAVAILABLE
        assert it.pipeline.set_aside == 0
        assert it.pipeline.oldest_flush_s >= 3.0
        assert "has waited" in it.pipeline.find_stall()
        it.journal.before.clear()
        assert (await it.submit(message(other, ann))).code is OK
        await it.pipeline.wait_drained()
        assert it.pipeline.find_stall() == ""
        assert it.pipeline.oldest_flush_s == 0


async def test_with_no_room_aside_an_entry_stays_in_its_lane(world: World, clock: ManualClock) -> None:
    ann, dialogs = await some_dialogs(world, DIALOGS_MAX + 2)
    async with lanes(world, clock, lanes=1, retry_total_s=1000.0) as it:
        first, *stuck = dialogs
        futures = await gathered(it, message(first, ann), *(message(dialog, ann) for dialog in stuck))
        journal = make_deaf(it, *stuck)
        assert [(await future).code for future in futures[:-1]] == [OK] + [UNAVAILABLE] * DIALOGS_MAX
        while journal.asked[stuck[-1]] < 8:
            journal.entered.clear()
            await journal.entered.wait()
        assert (it.pipeline.set_aside, futures[-1].done()) == (DIALOGS_MAX, False)
        journal.deaf = frozenset()
        assert (await futures[-1]).code is OK


async def test_memory_of_what_waits_is_bounded_for_all_lanes_together(world: World, clock: ManualClock) -> None:
    ann, dialogs = await some_dialogs(world, 4)
    async with lanes(world, clock, queue_bytes_max=3 * 10_000) as it:
        it.journal.before = [OUT] * 20
        futures = [it.submit(message(dialog, ann, "x" * 9_000)) for dialog in dialogs for _ in range(3)]
        refused = [future for future in futures if future.done() and future.result().code is UNAVAILABLE]
        assert len(refused) == 9
        assert 27_000 < it.pipeline.backlog.size <= 30_000
        it.journal.before.clear()
        await it.pipeline.wait_drained()
        assert it.pipeline.backlog.size == 0
        assert (await it.submit(message(dialogs[0], ann, "x" * 9_000))).code is OK
