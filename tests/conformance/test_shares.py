"""Shares: whom the keys of a session were handed, and what that lets a device send."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from protocol import bodies
from protocol.dialog_types import DialogType, Mode
from protocol.ids import new_id
from protocol.kinds import DAY_MS
from protocol.limits import SHARE_DEVICES_NAMED_MAX, SHARES_IN_FLIGHT_MAX, SLICES_KEPT_DAYS
from server.config.settings import EraserSettings
from server.writing.dialog_purge import DialogPurge
from storage.postgres.deleted_dialogs import PostgresDeletedDialogs
from storage.postgres.shares import PostgresShares
from storage.rows import Verdict, VerdictCode
from storage.shares import Shares, SliceRow, Staged, StagedSlices, StagingOutcome
from tests.support.clock import ManualClock
from tests.support.identity_people import NOW, IdentityStores, purge
from tests.support.sealing import another_device_of, keys_end, one_device_of
from tests.support.world import Person, World, edit, message, reaction

pytestmark = pytest.mark.anyio

ONE, OTHER = b"1" * 32, b"2" * 32


class Group:
    """A sealed group of Ann, Bo and Cy, each with a device that has keys; its `keys_seq`."""

    def __init__(self, world: World, shares: Shares, people: list[Person], dialog: bytes) -> None:
        self.world, self.shares, self.dialog = world, shares, dialog
        self.ann, self.bo, self.cy = people
        self.keys_seq = 0

    async def stage(
        self,
        *to: Person,
        share: bytes,
        by: Person | None = None,
        session: bytes = ONE,
        body: bytes = b"keys",
        more: bool = False,
    ) -> Staged:
        """Ann uploads slices for these devices, at the present `keys_seq`."""
        by = by or self.ann
        staged = StagedSlices(
            principal=by.principal,
            device=by.device,
            share=share,
            dialog=self.dialog,
            session=session,
            keys_seq=self.keys_seq,
            slices=[(each.device, body + each.device) for each in to],
            more=more,
        )
        return await self.shares.stage(staged, NOW)

    async def say(self, share: bytes | None = None, *, by: Person | None = None, session: bytes = ONE) -> Verdict:
        """Ann sends a sealed message."""
        entry = message(self.dialog, by or self.ann, keys_seq=self.keys_seq)
        (verdict,) = await self.world.flush(msgspec.structs.replace(entry, session=session, share=share))
        return verdict

    async def change(self, body: type[bodies.Body], *subjects: Person) -> None:
        """Ann changes who must have keys."""
        result = await self.world.act(body, self.dialog, self.ann, *subjects, signed_at=self.keys_seq)
        assert result.verdict.code is VerdictCode.OK
        self.keys_seq = result.verdict.seq
        await self.world.pool.execute("UPDATE heads SET keys_seq = $2 WHERE dialog_id = $1", self.dialog, self.keys_seq)

    async def read(self, person: Person) -> list[SliceRow]:
        """What waits for a device."""
        return await self.shares.read(person.device, after=0, limit=100)

    async def confirm(self, person: Person, *numbers: int) -> None:
        """Confirm slices of a device."""
        await self.shares.confirm([(person.device, number) for number in numbers])


@pytest.fixture
async def group(world: World) -> Group:
    people = [await one_device_of(world) for _ in range(3)]
    dialog = await world.create(DialogType.GROUP, *people, mode=Mode.SEALED)
    return Group(world, PostgresShares(world.pool), people, dialog)


async def test_a_message_makes_its_share_live_and_later_ones_need_none(group: Group) -> None:
    share = new_id()
    assert (await group.stage(group.bo, group.cy, share=share)).complete
    assert await group.read(group.bo) == []
    assert (await group.say(share)).code is VerdictCode.OK
    for person in (group.bo, group.cy):
        (row,) = await group.read(person)
        assert (row.author, row.device, row.dialog) == (group.ann.principal, group.ann.device, group.dialog)
        assert (row.share, row.session, row.body) == (share, ONE, b"keys" + person.device)
    assert (await group.say()).code is VerdictCode.OK
    assert (await group.say(share)).code is VerdictCode.OK


async def test_what_was_not_shared_is_stale(group: Group) -> None:
    """A first message, another session, a share of another device, one that nobody made."""
    share = new_id()
    assert (await group.say()).code is VerdictCode.STALE
    assert (await group.say(new_id())).code is VerdictCode.STALE
    await group.stage(group.bo, group.cy, share=share)
    assert (await group.say(share, session=OTHER)).code is VerdictCode.STALE
    assert (await group.say(share, by=group.bo)).code is VerdictCode.STALE
    assert (await group.say()).code is VerdictCode.STALE
    assert await group.read(group.cy) == []
    assert (await group.say(share)).code is VerdictCode.OK
    assert (await group.say(session=OTHER)).code is VerdictCode.STALE


async def test_what_is_not_sealed_is_refused_for_good(group: Group) -> None:
    assert (await group.world.say(group.dialog, group.ann)).code is VerdictCode.NOT_SEALED


async def test_edits_and_reactions_are_judged_alike(group: Group) -> None:
    share = new_id()
    await group.stage(group.bo, group.cy, share=share)
    said = await group.say(share)
    for make in (edit, reaction):
        for session, code in ((OTHER, VerdictCode.STALE), (ONE, VerdictCode.OK)):
            entry = make(group.dialog, group.ann, said.seq)
            sealed = msgspec.structs.replace(entry, keys_seq=group.keys_seq, session=session)
            assert (await group.world.flush(sealed))[0].code is code


async def test_a_share_that_lacks_a_device_is_not_enough_until_it_has_its_slice(group: Group) -> None:
    share = new_id()
    staged = await group.stage(group.bo, share=share)
    assert (staged.complete, staged.missing, staged.extra) == (False, (group.cy.device,), ())
    assert (await group.say(share)).code is VerdictCode.STALE
    assert (await group.stage(group.cy, share=share)).complete
    assert (await group.say(share)).code is VerdictCode.OK


async def test_a_share_is_complete_with_its_last_slices_only(group: Group) -> None:
    share = new_id()
    staged = await group.stage(group.bo, group.cy, share=share, more=True)
    assert (staged.complete, staged.missing) == (False, ())
    assert (await group.say(share)).code is VerdictCode.STALE
    assert (await group.stage(share=share)).complete
    assert not (await group.stage(group.bo, share=share, more=True)).complete  # a repetition takes nothing back
    assert (await group.say(share)).code is VerdictCode.OK


async def test_the_authors_other_device_needs_a_slice_and_the_writing_one_none(group: Group) -> None:
    tablet = await another_device_of(group.world, group.ann)
    share = new_id()
    assert (await group.stage(group.bo, group.cy, share=share)).missing == (tablet.device,)
    assert (await group.stage(group.ann, share=share)).outcome is StagingOutcome.STRANGER
    assert (await group.stage(tablet, share=share)).complete


async def test_who_is_added_needs_one_slice_of_the_same_session(group: Group) -> None:
    first, second = new_id(), new_id()
    await group.stage(group.bo, group.cy, share=first)
    await group.say(first)
    di = await one_device_of(group.world)
    await group.change(bodies.MembersAdded, di)
    assert (await group.say()).code is VerdictCode.STALE
    assert (await group.say(first)).code is VerdictCode.STALE
    assert (await group.stage(di, share=second)).complete
    assert (await group.say(second)).code is VerdictCode.OK
    assert [row.share for row in await group.read(di)] == [second]
    assert [row.share for row in await group.read(group.bo)] == [first]


@pytest.mark.parametrize("live", [True, False])
async def test_who_is_removed_has_the_session_also_by_a_slice_that_was_only_uploaded(group: Group, live: bool) -> None:
    first, second, third = new_id(), new_id(), new_id()
    await group.stage(group.bo, group.cy, share=first)
    if live:
        await group.say(first)
    await group.change(bodies.MemberRemoved, group.cy)
    staged = await group.stage(group.bo, share=second)
    assert (staged.complete, staged.extra) == (False, (group.cy.device,))
    assert (await group.say(second)).code is VerdictCode.STALE
    assert (await group.stage(group.bo, share=third, session=OTHER)).complete
    assert (await group.say(third, session=OTHER)).code is VerdictCode.OK


async def test_a_slice_that_did_not_go_out_covers_nobody(group: Group) -> None:
    """Bo was handed the session in a share that the addition overtook: it went, so he needs a slice again."""
    first, second = new_id(), new_id()
    await group.stage(group.bo, group.cy, share=first)
    di = await one_device_of(group.world)
    await group.change(bodies.MembersAdded, di)
    staged = await group.stage(di, share=second)
    assert set(staged.missing) == {group.bo.device, group.cy.device}
    assert (await group.stage(group.bo, group.cy, share=second)).complete
    await group.say(second)
    assert [row.share for row in await group.read(group.bo)] == [second]


async def test_who_goes_back_to_a_session_that_they_left_has_to_begin_another(group: Group) -> None:
    """What its slices were is not remembered: Cy may have one."""
    for session in (ONE, OTHER, b"3" * 32):
        share = new_id()
        assert (await group.stage(group.bo, group.cy, share=share, session=session)).complete
        await group.say(share, session=session)
    await group.change(bodies.MemberRemoved, group.cy)
    assert (await group.stage(group.bo, share=new_id(), session=ONE)).outcome is StagingOutcome.LEFT
    assert (await group.stage(group.bo, share=new_id(), session=b"4" * 32)).complete


async def test_a_share_is_for_one_dialog_session_and_keys_seq(group: Group) -> None:
    share = new_id()
    await group.stage(group.bo, share=share)
    assert (await group.stage(group.bo, share=share, session=OTHER)).outcome is StagingOutcome.CONFLICT
    assert (await group.stage(group.bo, share=share, body=b"other")).outcome is StagingOutcome.CONFLICT
    group.keys_seq += 1
    assert (await group.stage(group.bo, share=new_id())).outcome is StagingOutcome.STALE
    group.keys_seq -= 1
    await group.change(bodies.MemberRemoved, group.cy)
    now, group.keys_seq = group.keys_seq, 0
    staged = await group.stage(group.bo, share=new_id())
    assert (staged.outcome, staged.keys_seq) == (StagingOutcome.STALE, now)


async def test_slices_are_for_those_who_may_read_only(group: Group) -> None:
    stranger = await one_device_of(group.world)
    share = new_id()
    for wrong in ([stranger], [group.bo, stranger]):
        assert (await group.stage(*wrong, share=share)).outcome is StagingOutcome.STRANGER
    assert (await group.stage(group.bo, by=stranger, share=share)).outcome is StagingOutcome.NOT_FOUND
    await keys_end(group.world, group.cy)
    assert (await group.stage(group.cy, share=share)).outcome is StagingOutcome.STRANGER
    assert (await group.stage(group.bo, share=share)).complete


async def test_a_device_that_nobody_would_believe_hands_nothing_on(group: Group) -> None:
    listed = "UPDATE log_devices SET until = $2 WHERE device_id = $1"
    await group.world.pool.execute(listed, group.ann.device, 1)
    assert (await group.stage(group.bo, group.cy, share=new_id())).outcome is StagingOutcome.UNLISTED
    await group.world.pool.execute(listed, group.ann.device, None)
    assert (await group.stage(group.bo, group.cy, share=new_id())).complete
    await keys_end(group.world, group.ann)
    assert (await group.stage(group.bo, group.cy, share=new_id())).outcome is StagingOutcome.UNLISTED


async def test_an_open_dialog_has_no_shares_and_its_messages_are_not_judged(group: Group) -> None:
    people = (group.ann, group.bo, group.cy)
    group.dialog = await group.world.create(DialogType.GROUP, *people)
    assert (await group.stage(group.bo, share=new_id())).outcome is StagingOutcome.OPEN
    assert (await group.say()).code is VerdictCode.OK


async def test_repeating_changes_nothing(group: Group) -> None:
    share = new_id()
    for _ in range(2):
        assert (await group.stage(group.bo, group.cy, share=share)).complete
    said = message(group.dialog, group.ann, keys_seq=group.keys_seq)
    said = msgspec.structs.replace(said, session=ONE, share=share)
    first, second = [(await group.world.flush(said))[0] for _ in range(2)]
    assert (first.code, second.code) == (VerdictCode.OK, VerdictCode.DUPLICATE)
    assert (await group.stage(group.bo, group.cy, share=share)).complete
    assert len(await group.read(group.bo)) == 1


async def test_a_repetition_after_all_was_confirmed_is_not_in_flight(group: Group) -> None:
    share = new_id()
    await group.stage(group.bo, group.cy, share=share)
    await group.say(share)
    for person in (group.bo, group.cy):
        await group.confirm(person, *(row.number for row in await group.read(person)))
    assert (await group.stage(group.bo, group.cy, share=share)).complete
    assert await group.world.pool.fetchval("SELECT (SELECT count(*) FROM shares) + (SELECT count(*) FROM slices)") == 0


async def test_slices_of_live_shares_are_read_for_several_devices_at_once(group: Group) -> None:
    first, second, staged = new_id(), new_id(), new_id()
    for share, session in ((first, ONE), (second, OTHER), (staged, b"3" * 32)):
        assert (await group.stage(group.bo, group.cy, share=share, session=session)).complete
    for share, session in ((first, ONE), (second, OTHER)):
        await group.say(share, session=session)
    device, everybody = group.ann.device, [person.device for person in (group.ann, group.bo, group.cy)]
    rows = await group.shares.read_shared([(device, first), (device, staged), (group.bo.device, second)], everybody)
    assert [(row.to_device, row.share, row.keys_seq) for row in rows] == [
        (group.bo.device, first, 0),
        (group.cy.device, first, 0),
    ]
    rows = await group.shares.read_shared([(device, first), (device, second)], [group.cy.device])
    assert rows == await group.read(group.cy)


async def test_of_a_dialog_the_newest_slices_are_read_that_a_device_has_not_confirmed(group: Group) -> None:
    async def read(limit: int = 9) -> list[bytes]:
        return [row.share for row in await group.shares.read_newest(group.bo.device, group.dialog, limit=limit)]

    first, second, staged = new_id(), new_id(), new_id()
    for share, session in ((first, ONE), (second, OTHER), (staged, b"3" * 32)):
        await group.stage(group.bo, group.cy, share=share, session=session)
    for share, session in ((first, ONE), (second, OTHER)):
        await group.say(share, session=session)
    assert [await read(), await read(limit=2), await read(limit=1)] == [[first, second], [second], []]
    assert await group.shares.read_newest(group.bo.device, new_id(), limit=9) == []
    await group.confirm(group.bo, (await group.read(group.bo))[0].number)
    assert await read() == [second]


async def test_of_a_batch_the_last_share_of_a_device_counts(group: Group) -> None:
    shares = {ONE: new_id(), OTHER: new_id()}
    entries = []
    for session, share in shares.items():
        await group.stage(group.bo, group.cy, share=share, session=session)
        for _ in range(2):
            entry = message(group.dialog, group.ann, keys_seq=group.keys_seq)
            entries.append(msgspec.structs.replace(entry, session=session, share=share))
    assert {verdict.code for verdict in await group.world.flush(*entries)} == {VerdictCode.OK}
    assert [row.session for row in await group.read(group.bo)] == [ONE, OTHER]
    assert (await group.say(session=ONE)).code is VerdictCode.STALE
    assert (await group.say(session=OTHER)).code is VerdictCode.OK


async def test_a_refused_message_makes_nothing_live(group: Group) -> None:
    share = new_id()
    await group.stage(group.bo, group.cy, share=share)
    entry = message(group.dialog, group.ann, keys_seq=group.keys_seq, reply_to=99)
    (verdict,) = await group.world.flush(msgspec.structs.replace(entry, session=ONE, share=share))
    assert verdict.code is VerdictCode.EVENT_NOT_FOUND
    assert await group.read(group.bo) == []


async def test_a_share_that_is_being_uploaded_stops_no_flush(group: Group) -> None:
    share = new_id()
    await group.stage(group.bo, group.cy, share=share)
    async with group.world.pool.acquire() as slow, slow.transaction():
        await slow.execute("SELECT FROM shares FOR NO KEY UPDATE")
        async with asyncio.timeout(10):
            assert (await group.say(share)).code is VerdictCode.STALE
    assert (await group.say(share)).code is VerdictCode.OK


async def test_repeating_an_upload_makes_no_message_stale_that_names_its_share(group: Group) -> None:
    share = new_id()
    await group.stage(group.bo, group.cy, share=share)
    async with group.world.pool.acquire() as slow, slow.transaction():
        repeating = Group(group.world, PostgresShares(slow), [group.ann, group.bo, group.cy], group.dialog)  # type: ignore[arg-type]
        for again in ([group.bo, group.cy], [group.bo], []):
            assert (await repeating.stage(*again, share=share)).complete
        async with asyncio.timeout(10):
            assert (await group.say(share)).code is VerdictCode.OK


async def test_a_confirmed_slice_goes_and_the_share_with_its_last_one(group: Group) -> None:
    share = new_id()
    await group.stage(group.bo, group.cy, share=share)
    await group.confirm(group.bo, *range(1, 100))
    await group.say(share)
    (bo_has,), (cy_has,) = await group.read(group.bo), await group.read(group.cy)
    await group.confirm(group.bo, bo_has.number, cy_has.number)
    assert await group.read(group.bo) == []
    assert await group.read(group.cy) == [cy_has]
    assert await group.shares.read(group.cy.device, after=cy_has.number, limit=9) == []
    await group.confirm(group.cy, cy_has.number)
    assert await group.world.pool.fetchval("SELECT count(*) FROM shares") == 0
    assert (await group.say()).code is VerdictCode.OK


async def test_several_devices_confirm_at_once(group: Group) -> None:
    share = new_id()
    await group.stage(group.bo, group.cy, share=share)
    await group.say(share)
    rows = [(person, row) for person in (group.bo, group.cy) for row in await group.read(person)]
    await group.shares.confirm([(person.device, row.number) for person, row in rows])
    assert await group.world.pool.fetchval("SELECT (SELECT count(*) FROM shares) + (SELECT count(*) FROM slices)") == 0


async def test_who_confirms_waits_neither_for_the_sweep_nor_for_another_device(group: Group) -> None:
    """The sweep locks a share before its slices: who locked them the other way round would make a circle with it."""
    share = new_id()
    await group.stage(group.bo, group.cy, share=share)
    await group.say(share)
    (bo_has,), (cy_has,) = await group.read(group.bo), await group.read(group.cy)
    await group.confirm(group.cy, cy_has.number)
    async with group.world.pool.acquire() as sweep, sweep.transaction():
        await sweep.execute("SELECT FROM shares FOR UPDATE")
        async with asyncio.timeout(10):
            await group.confirm(group.bo, bo_has.number)
    assert await group.read(group.bo) == []
    await group.stage(group.bo, group.cy, share=(other := new_id()), session=OTHER)
    await group.say(other, session=OTHER)
    (again,) = await group.read(group.bo)
    async with group.world.pool.acquire() as slow, slow.transaction():
        await slow.execute("SELECT FROM slices WHERE to_device = $1 FOR UPDATE", group.bo.device)
        async with asyncio.timeout(10):
            await group.confirm(group.bo, again.number)
    assert await group.read(group.bo) == [again]  # it comes again, so it is confirmed again


async def test_of_shares_that_nothing_has_named_the_newest_are_kept(group: Group) -> None:
    """Those before them are of messages that were refused: else their number would keep a device from writing."""
    live, oldest, *others = (number.to_bytes(16) for number in range(SHARES_IN_FLIGHT_MAX + 2))
    assert (await group.stage(group.bo, group.cy, share=live)).complete
    await group.say(live)
    for share in (oldest, *others):
        assert (await group.stage(group.bo, group.cy, share=share)).outcome is StagingOutcome.OK
    kept = await group.world.pool.fetch("SELECT share_id FROM shares ORDER BY share_id")
    assert [share for (share,) in kept] == [live, *others]
    assert await group.world.pool.fetchval("SELECT count(*) FROM slices") == 2 * len(kept)


async def test_shares_that_nothing_can_name_any_more_make_room(group: Group) -> None:
    for number in range(SHARES_IN_FLIGHT_MAX):
        await group.stage(group.bo, share=number.to_bytes(16))
    await group.change(bodies.MemberRemoved, group.cy)
    assert (await group.stage(group.bo, share=new_id())).outcome is StagingOutcome.OK
    assert await group.world.pool.fetchval("SELECT count(*) FROM slices") == 1


async def test_what_is_missing_is_named_up_to_a_bound(group: Group) -> None:
    for _ in range(SHARE_DEVICES_NAMED_MAX):
        await another_device_of(group.world, group.bo)
    assert len((await group.stage(share=new_id())).missing) == SHARE_DEVICES_NAMED_MAX


@pytest.mark.parametrize(("live", "days"), [(False, 1), (True, SLICES_KEPT_DAYS)])
async def test_what_has_reached_its_age_goes_and_can_be_named_no_more(
    group: Group, stores: IdentityStores, live: bool, days: int
) -> None:
    share = new_id()
    await group.stage(group.bo, group.cy, share=share)
    if live:
        await group.say(share)
    counted = "SELECT (SELECT count(*) FROM slices) + (SELECT count(*) FROM shares)"
    await purge(stores, NOW + days * DAY_MS - 1)
    assert await group.world.pool.fetchval(counted) == 3
    await purge(stores, NOW + days * DAY_MS)
    assert await group.world.pool.fetchval(counted) == 0
    assert (await group.say(share)).code is (VerdictCode.OK if live else VerdictCode.STALE)


async def test_slices_for_a_device_go_with_its_keys(group: Group) -> None:
    share = new_id()
    await group.stage(group.bo, group.cy, share=share)
    await group.say(share)
    await keys_end(group.world, group.bo)
    assert await group.read(group.bo) == []
    assert len(await group.read(group.cy)) == 1


async def test_of_a_deleted_dialog_no_share_is_left(group: Group) -> None:
    live, staged = new_id(), new_id()
    for share, session in ((live, ONE), (staged, OTHER)):
        await group.stage(group.bo, group.cy, share=share, session=session)
    await group.say(live)
    deleted = await group.world.act(bodies.DialogDeleted, group.dialog, group.ann)
    clock = ManualClock(deleted.verdict.at_ms + DAY_MS)
    settings = EraserSettings(step_rows=3, dialog_deletion_grace_days=0)
    dialogs = DialogPurge(PostgresDeletedDialogs(group.world.pool), None, settings, clock)
    while await dialogs.purge_some():
        pass
    for table in ("slices", "shares", "handed_sessions"):
        assert await group.world.pool.fetchval(f"SELECT count(*) FROM {table}") == 0, table


async def test_sessions_that_were_left_long_ago_are_forgotten(group: Group, stores: IdentityStores) -> None:
    for session in (ONE, OTHER, b"3" * 32):
        share = new_id()
        await group.stage(group.bo, group.cy, share=share, session=session)
        await group.say(share, session=session)
    counted = "SELECT count(*) FROM handed_sessions"
    await purge(stores, NOW + SLICES_KEPT_DAYS * DAY_MS - 1)
    assert await group.world.pool.fetchval(counted) == 3
    await purge(stores, NOW + SLICES_KEPT_DAYS * DAY_MS)
    assert await group.world.pool.fetchval(counted) == 2


async def test_sessions_of_a_device_that_is_signed_out_are_left_and_forgotten(
    group: Group, stores: IdentityStores
) -> None:
    await group.stage(group.bo, group.cy, share=(share := new_id()))
    await group.say(share)
    await keys_end(group.world, group.bo)
    counted = "SELECT count(*) FROM handed_sessions WHERE left_at_ms IS NOT NULL"
    assert await group.world.pool.fetchval(counted) == 0
    await keys_end(group.world, group.ann)
    assert await group.world.pool.fetchval(counted) == 1
    await purge(stores, await group.world.pool.fetchval("SELECT unix_ms()") + SLICES_KEPT_DAYS * DAY_MS)
    assert await group.world.pool.fetchval("SELECT count(*) FROM handed_sessions") == 0


async def test_a_share_that_is_half_swept_is_not_complete(group: Group) -> None:
    share = new_id()
    await group.stage(group.bo, group.cy, share=share)
    assert await group.world.pool.fetchval("SELECT sweep_shares($1, 1)", NOW + DAY_MS)
    assert (await group.say(share)).code is VerdictCode.STALE
