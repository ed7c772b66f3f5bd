"""The write pipeline on the real journal, with faults injected at its seam."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from protocol import bodies
from protocol.dialog_types import DialogType, Mode
from storage.rows import ChangeEntry, Entry, VerdictCode
from storage.unavailable import NothingWrittenError, StorageUnavailableError
from tests.support.clock import ManualClock
from tests.support.lanes import lanes
from tests.support.sealing import SHARED, one_device_of, share_with_all
from tests.support.world import Person, World, message, reaction

pytestmark = pytest.mark.anyio

OK = VerdictCode.OK
LOST = StorageUnavailableError("the reply was lost")
OUT = NothingWrittenError("out of reach")


async def test_what_gathers_during_a_flush_goes_in_the_next_one(world: World, clock: ManualClock) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    async with lanes(world, clock) as it:
        it.journal.gate = asyncio.Event()
        first = it.submit(message(dialog, ann))
        await it.journal.entered.wait()
        others = [it.submit(message(dialog, ann)) for _ in range(9)]
        it.journal.gate.set()
        verdicts = await asyncio.gather(first, *others)
        assert it.journal.calls == [1, 9]
        assert [v.seq for v in verdicts] == list(range(2, 12))
        assert it.routed_seqs == list(range(2, 12))
        assert not any(item.may_bring_keys for item in it.routed)


async def test_nothing_is_acked_or_routed_before_the_commit(world: World, clock: ManualClock) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    async with lanes(world, clock) as it:
        it.journal.gate = asyncio.Event()
        future = it.submit(message(dialog, ann))
        await it.journal.entered.wait()
        assert it.log == []
        it.journal.gate.set()
        await future
        assert await world.pool.fetchval("SELECT seq FROM heads WHERE dialog_id = $1", dialog) == 2


async def test_a_lost_reply_is_asked_again_and_delivered_once(world: World, clock: ManualClock) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    async with lanes(world, clock) as it:
        it.journal.after = [LOST, LOST]
        verdict = await it.submit(message(dialog, ann))
        assert (verdict.code, verdict.seq) == (VerdictCode.DUPLICATE, 2)
        assert it.log == ["done 2", "routed 2"]


async def test_when_patience_ends_all_that_waits_is_refused_in_one_go(world: World, clock: ManualClock) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    async with lanes(world, clock, retry_total_s=3.0) as it:
        it.journal.before = [OUT] * 100
        futures = [it.submit(message(dialog, ann)) for _ in range(3)]
        verdicts = await asyncio.gather(*futures)
        assert {v.code for v in verdicts} == {VerdictCode.UNAVAILABLE}
        it.journal.before.clear()
        assert (await it.submit(message(dialog, ann))).code is OK


async def test_a_batch_whose_fate_was_unknown_is_delivered_once_it_is_known(world: World, clock: ManualClock) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    async with lanes(world, clock, retry_total_s=3.0) as it:
        it.journal.after = [LOST]  # it is durable
        it.journal.before = [OUT] * 100
        it.journal.before.insert(0, None)
        sent = message(dialog, ann)
        assert (await it.submit(sent)).code is VerdictCode.UNAVAILABLE
        settled = asyncio.ensure_future(it.pipeline.wait_settled())
        it.journal.before.clear()
        await settled
        assert it.log == ["done 0", "routed 2"]
        assert (await it.submit(sent)).code is VerdictCode.DUPLICATE


async def test_what_was_erased_is_not_delivered_again_whatever_body_comes(world: World, clock: ManualClock) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    sent = message(dialog, ann)
    async with lanes(world, clock) as it:
        secret = await it.submit(sent)
        await world.act(bodies.Deleted, dialog, ann, target=secret.seq)
        it.routed.clear()
        other = message(dialog, ann, "never stored", n=sent.n)
        assert [(await it.submit(entry)).code for entry in (sent, other)] == [VerdictCode.DUPLICATE] * 2
        assert it.routed == []


async def test_who_repeats_a_change_makes_nobody_read_it_again(world: World, clock: ManualClock) -> None:
    ann, bo, cy = await world.people(3)
    dialog = await world.create(DialogType.GROUP, ann, bo, await world.person())
    addition = ChangeEntry(dialog, ann.principal, ann.device, ann.n(), bodies.MembersAdded([cy.principal]))
    async with lanes(world, clock) as it:
        it.journal.after = [LOST]
        verdicts = [await it.pipeline.append(addition), await it.pipeline.append(addition)]
        assert [v.code for v in verdicts] == [VerdictCode.DUPLICATE] * 2
        assert [item.change for item in it.routed] == [addition]


async def test_of_what_an_earlier_call_wrote_nobody_says_how_many_members_there_were(
    world: World, clock: ManualClock
) -> None:
    ann, bo, cy, *new = await world.people(5)
    dialog = await world.create(DialogType.GROUP, ann, bo, cy)
    async with lanes(world, clock) as it:
        for lost, who in zip(([], [LOST]), new, strict=True):
            it.journal.after = [*lost]
            await it.submit(message(dialog, ann))
            it.journal.after = [*lost]
            addition = bodies.MembersAdded([who.principal])
            await it.pipeline.append(ChangeEntry(dialog, ann.principal, ann.device, ann.n(), addition))
        assert [item.member_count for item in it.routed] == [3, 4, 0, 0]


async def test_a_fault_in_telling_answers_once_and_stops_nothing(world: World, clock: ManualClock) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    async with lanes(world, clock) as it:
        it.faults = [RuntimeError("a fault in telling")]
        assert (await it.submit(message(dialog, ann))).code is OK
        assert (await it.submit(message(dialog, ann))).code is OK
        assert it.log == ["done 2", "done 3", "routed 3"]


async def test_a_row_that_cannot_be_digested_fails_alone(world: World, clock: ManualClock) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    async with lanes(world, clock) as it:
        it.journal.gate = asyncio.Event()
        first = it.submit(message(dialog, ann))
        await it.journal.entered.wait()
        poison = message(dialog, ann)
        bad = it.submit(Entry(poison.dialog, poison.author, poison.device, 2**70, 1, b""))
        good = it.submit(message(dialog, bo))
        it.journal.gate.set()
        assert [(await future).code for future in (first, bad, good)] == [OK, VerdictCode.INTERNAL, OK]


async def test_a_change_keeps_its_place_between_messages(world: World, clock: ManualClock) -> None:
    ann, bo, cy = await world.people(3)
    dialog = await world.create(DialogType.GROUP, ann, bo, cy)
    async with lanes(world, clock) as it:
        before = it.submit(message(dialog, bo))
        removal = ChangeEntry(dialog, ann.principal, ann.device, ann.n(), bodies.MemberRemoved(bo.principal))
        change = asyncio.ensure_future(it.pipeline.append(removal))
        await asyncio.sleep(0)
        after = it.submit(message(dialog, bo))
        assert [(await f).code for f in (before, change, after)] == [OK, OK, VerdictCode.NOT_FOUND]
        assert it.routed_seqs == [2, 3]


async def test_the_same_number_twice_in_a_row_is_one_message(world: World, clock: ManualClock) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    async with lanes(world, clock) as it:
        sent = message(dialog, ann)
        verdicts = await asyncio.gather(it.submit(sent), it.submit(sent))
        assert [(v.code, v.seq) for v in verdicts] == [(OK, 2), (VerdictCode.DUPLICATE, 2)]


async def test_a_full_lane_refuses_at_once(world: World, clock: ManualClock) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    async with lanes(world, clock, queue_rows_max=2) as it:
        it.journal.gate = asyncio.Event()
        futures = [it.submit(message(dialog, ann))]
        await it.journal.entered.wait()
        futures += [it.submit(message(dialog, ann)) for _ in range(3)]
        assert futures[-1].result().code is VerdictCode.UNAVAILABLE
        assert it.pipeline.backlog.rows == 2
        it.journal.gate.set()
        assert [v.code for v in await asyncio.gather(*futures[:3])] == [OK] * 3


async def test_a_head_that_stays_busy_is_waited_for(world: World, clock: ManualClock) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    async with lanes(world, clock) as it:
        async with world.held(dialog):
            future = it.submit(message(dialog, ann))
            while len(it.journal.calls) < 4:
                it.journal.entered.clear()
                await it.journal.entered.wait()
        assert (await future).code is OK


async def test_settled_and_drained_mean_answered_and_routed(world: World, clock: ManualClock) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    async with lanes(world, clock) as it:
        await it.pipeline.wait_settled()
        it.journal.gate = asyncio.Event()
        it.submit(message(dialog, ann))
        await it.journal.entered.wait()
        settled = asyncio.ensure_future(it.pipeline.wait_settled())
        it.submit(message(dialog, ann))
        await asyncio.sleep(0)
        assert not settled.done()
        it.journal.gate.set()
        await settled
        assert 2 in it.routed_seqs
        await it.pipeline.wait_drained()
        assert it.routed_seqs == [2, 3]


async def test_nothing_overtakes_a_stale_number_of_its_device(world: World, clock: ManualClock) -> None:
    ann, bo, cy = [await one_device_of(world) for _ in range(3)]
    dialog = await world.create(DialogType.GROUP, ann, bo, cy, mode=Mode.SEALED)
    removal = (await world.act(bodies.MemberRemoved, dialog, ann, bo)).verdict
    shares = {each.device: await share_with_all(world, dialog, each, removal.seq) for each in (ann, cy)}

    def sealed(by: Person, **fields: Any) -> Entry:
        return message(dialog, by, **({"keys_seq": removal.seq} | fields), session=SHARED, share=shares[by.device])

    async with lanes(world, clock) as it:
        it.journal.gate = asyncio.Event()
        first = it.submit(sealed(ann))
        await it.journal.entered.wait()
        late, renewed = sealed(cy, keys_seq=0), sealed(cy)
        futures = [it.submit(entry) for entry in (late, renewed, reaction(dialog, cy, removal.seq + 1))]
        other = it.submit(sealed(ann))
        it.journal.gate.set()
        codes = [(await future).code for future in (first, *futures, other)]
        assert all(item.may_bring_keys for item in it.routed)
        assert codes == [OK, VerdictCode.STALE, VerdictCode.UNAVAILABLE, VerdictCode.UNAVAILABLE, OK]
        again = sealed(cy, n=late.n)
        assert [(await it.submit(entry)).code for entry in (again, renewed)] == [OK, OK]
