"""A one-time key goes out once, whatever races, repeats or is restored; logs grow, and keys go with their device."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from msgspec import structs

from protocol.device_log import LogAction, LogState, extend, next_entry
from protocol.dialog_types import DialogType
from protocol.ids import new_id
from protocol.limits import KEY_CLAIMS_KEPT, ONE_TIME_KEYS_MAX
from protocol.public_keys import DevicePublic
from storage.device_keys import (
    Claimed,
    DeviceKeyStore,
    GivenKey,
    KeyClaim,
    KeysOutcome,
    KeyUpload,
    StoredKey,
    Uploaded,
)
from storage.identity_rows import EndReason
from storage.rows import KeysHeld
from storage.unavailable import StorageUnavailableError
from tchat.crypto.own_identity import OwnIdentity
from tests.support.key_pairs import fresh_keys
from tests.support.world import Person, World

pytestmark = pytest.mark.anyio

FALLBACK = StoredKey(0, b"fallback")
_WAITING_REMOVALS = """
SELECT count(*) FROM pg_stat_activity
WHERE wait_event_type = 'Lock' AND datname = current_database() AND query LIKE '%append_device_log%'
"""


class Keyed:
    """A person whose device has keys here."""

    def __init__(self, store: DeviceKeyStore, person: Person) -> None:
        self.store = store
        self.person = person
        self.public = fresh_keys()
        self.claims = itertools.count(1)

    async def upload(
        self,
        *numbers: int,
        generation: int = 1,
        public: DevicePublic | None = None,
        fallback: StoredKey | None = FALLBACK,
    ) -> Uploaded:
        """Upload one-time keys with these numbers."""
        person = self.person
        upload = KeyUpload(
            sign_in=person.sign_in,
            device=person.device,
            principal=person.principal,
            generation=generation,
            keys=b"keys",
            public=public or self.public,
            one_time=[StoredKey(number, b"key %d" % number) for number in numbers],
            fallback=fallback,
        )
        return await self.store.upload(upload)

    async def claim(
        self, dialog: bytes, *of: Keyed, number: int | None = None, limited: tuple[Keyed, ...] = ()
    ) -> Claimed:
        """Claim a key of each of these."""
        claim = KeyClaim(
            self.person.device,
            self.person.principal,
            dialog,
            next(self.claims) if number is None else number,
            [each.person.device for each in of],
            [each.person.device for each in limited],
        )
        return await self.store.claim(claim)


class Group:
    """Members of one dialog, each with keys; the first is Ann."""

    def __init__(self, world: World, dialog: bytes, members: list[Keyed]) -> None:
        self.world = world
        self.dialog = dialog
        self.members = members
        self.ann, self.bo, self.cy = members[:3]


def one(claimed: Claimed) -> GivenKey:
    """The only key of an answer."""
    assert claimed.outcome is KeysOutcome.OK
    (given,) = claimed.keys
    return given


@pytest.fixture
async def group(world: World, device_keys: DeviceKeyStore) -> Group:
    """Eight members, of whom all have uploaded a fallback key."""
    people = await world.people(8)
    dialog = await world.create(DialogType.GROUP, *people)
    members = [Keyed(device_keys, person) for person in people]
    for member in members:
        assert (await member.upload()).outcome is KeysOutcome.OK
    return Group(world, dialog, members)


async def count(world: World, table: str) -> int:
    """Rows of a table."""
    found: int = await world.pool.fetchval(f"SELECT count(*) FROM {table}")
    return found


async def test_a_key_goes_out_once_however_many_claim_at_once(group: Group) -> None:
    await group.ann.upload(*range(30))

    async def claim_some(claimer: Keyed) -> list[GivenKey]:
        return [one(await claimer.claim(group.dialog, group.ann)) for _ in range(6)]

    given = [key for keys in await asyncio.gather(*map(claim_some, group.members[1:])) for key in keys]
    one_time = [each.key.number for each in given if not each.fallback]
    assert sorted(one_time) == list(range(30))
    assert len(given) == 42
    assert {each.key for each in given if each.fallback} == {FALLBACK}
    assert await group.ann.upload() == Uploaded(KeysOutcome.OK, 0, fallback_used=True)


async def test_claims_of_one_another_wait_for_nobody(group: Group) -> None:
    for member in group.members:
        await member.upload(*range(3))
    for _ in range(5):
        answers = await asyncio.gather(*(member.claim(group.dialog, *group.members) for member in group.members))
        assert {len(each.keys) for each in answers} == {len(group.members) - 1}


async def test_the_same_claim_gets_the_same_key_also_when_it_races_with_itself(group: Group) -> None:
    await group.ann.upload(*range(5))
    answers = await asyncio.gather(*(group.bo.claim(group.dialog, group.ann, group.cy, number=1) for _ in range(6)))
    assert {len(each.keys) for each in answers} == {2}
    assert len(set(answers)) == 1
    assert (await group.ann.upload()).held == 4
    await group.bo.claim(group.dialog, group.ann, number=2)
    assert await group.bo.claim(group.dialog, group.ann, group.cy, number=1) == answers[0]


async def test_a_claim_is_for_the_devices_that_it_was_made_for(group: Group) -> None:
    await group.bo.claim(group.dialog, group.ann, number=5)
    assert (await group.bo.claim(group.dialog, group.cy, number=5)).outcome is KeysOutcome.CONFLICT
    assert (await group.bo.claim(group.dialog, group.ann, number=4)).outcome is KeysOutcome.PASSED


async def test_the_claims_that_are_remembered_are_bounded_and_one_that_is_not_costs_no_key(group: Group) -> None:
    await group.ann.upload(*range(3))
    for number in (1, 2, KEY_CLAIMS_KEPT + 1):
        await group.bo.claim(group.dialog, group.ann, number=number)
    assert await count(group.world, "key_claims") == 2
    assert (await group.bo.claim(group.dialog, group.ann, number=1)).outcome is KeysOutcome.PASSED
    assert (await group.ann.upload()).held == 0


async def test_a_device_that_is_claimed_too_often_gives_its_fallback_key(group: Group) -> None:
    await group.ann.upload(7)
    assert one(await group.bo.claim(group.dialog, group.ann, limited=(group.ann,))).fallback
    assert one(await group.bo.claim(group.dialog, group.ann)).key.number == 7


async def test_who_has_nothing_here_is_not_in_the_answer(group: Group, device_keys: DeviceKeyStore) -> None:
    (stranger,) = await group.world.people(1)
    outside = Keyed(device_keys, stranger)
    assert (await outside.claim(group.dialog, group.ann)).outcome is KeysOutcome.MISSING
    await outside.upload(1)
    assert await group.ann.claim(group.dialog, outside, group.ann) == Claimed(KeysOutcome.OK)
    assert (await outside.claim(group.dialog, group.ann)).outcome is KeysOutcome.NOT_FOUND
    assert (
        await device_keys.read_identities(stranger.principal, group.dialog, [(new_id(), 0, 0)], entries_max=1) is None
    )


async def test_a_key_that_was_uploaded_once_is_never_taken_again(group: Group) -> None:
    """A client whose answer was lost uploads the same keys again."""
    await group.ann.upload(1, 2)
    assert one(await group.bo.claim(group.dialog, group.ann)).key.number == 1
    assert (await group.ann.upload(1, 2, 3)).held == 2
    numbers = [one(await group.bo.claim(group.dialog, group.ann)).key.number for _ in range(2)]
    assert numbers == [2, 3]
    assert (await group.ann.upload(1, 2, 3)).held == 0


async def test_more_one_time_keys_than_fit_are_refused_and_none_is_taken(group: Group) -> None:
    await group.ann.upload(*range(60))
    assert (await group.ann.upload(*range(60, 60 + ONE_TIME_KEYS_MAX - 59))).outcome is KeysOutcome.BOUND
    assert (await group.ann.upload(*range(60, ONE_TIME_KEYS_MAX))).held == ONE_TIME_KEYS_MAX


async def test_a_newer_fallback_key_replaces_the_older_and_never_the_other_way_round(group: Group) -> None:
    await group.bo.claim(group.dialog, group.ann)
    newer = StoredKey(1, b"newer")
    assert not (await group.ann.upload(fallback=newer)).fallback_used
    await group.ann.upload(fallback=FALLBACK)
    assert one(await group.bo.claim(group.dialog, group.ann)).key == newer


async def test_a_device_has_one_set_of_keys_in_a_generation_and_the_generation_never_falls(group: Group) -> None:
    await group.ann.upload(*range(5))
    assert (await group.ann.upload(public=fresh_keys())).outcome is KeysOutcome.PASSED
    next_keys = fresh_keys()
    assert (await group.ann.upload(9, generation=2, public=next_keys)).held == 1
    assert (await group.ann.upload()).outcome is KeysOutcome.PASSED
    assert one(await group.bo.claim(group.dialog, group.ann)).key.number == 9


async def test_a_key_is_of_one_device_and_of_one_generation(group: Group) -> None:
    ann, bo = group.ann, group.bo
    half = DevicePublic(fresh_keys().ed25519, ann.public.curve25519)
    assert (await bo.upload(generation=2, public=half)).outcome is KeysOutcome.REUSED
    assert (await ann.upload(generation=2)).outcome is KeysOutcome.REUSED
    (person,) = await group.world.people(1)
    assert (await Keyed(bo.store, person).upload(public=half)).outcome is KeysOutcome.REUSED


async def test_a_new_epoch_discards_one_time_keys_and_claims(group: Group) -> None:
    """The database that was restored has keys that went out after its backup."""
    await group.ann.upload(*range(5))
    before = await group.bo.claim(group.dialog, group.ann, number=1)
    await group.world.pool.execute("UPDATE deployment SET epoch = epoch + 1")
    assert one(await group.bo.claim(group.dialog, group.ann, number=1)) != one(before)
    assert one(await group.bo.claim(group.dialog, group.ann, number=2)).fallback
    assert (await group.ann.upload(5)).held == 1
    assert one(await group.bo.claim(group.dialog, group.ann, number=3)).key.number == 5


async def test_nothing_goes_out_of_a_restored_database_before_its_epoch_has_begun(group: Group) -> None:
    await group.ann.upload(1)
    await group.world.pool.execute("UPDATE deployment SET system_identifier = 1, timeline_id = 1")
    with pytest.raises(StorageUnavailableError):
        await group.bo.claim(group.dialog, group.ann)


async def test_keys_go_with_the_sign_in_but_not_when_the_device_signs_in_anew(group: Group) -> None:
    world, ann, bo = group.world, group.ann, group.bo
    await ann.upload(1)
    old = ann.person.sign_in
    ann.person.sign_in = new_id()
    revoke = "UPDATE sign_ins SET revoked_at_ms = 1, revoked_why = $2 WHERE sign_in_id = $1"
    await world.pool.execute(revoke, old, EndReason.REPLACED)
    await world.another_sign_in(ann.person)
    assert one(await bo.claim(group.dialog, ann)).key.number == 1
    await world.pool.execute(revoke, ann.person.sign_in, EndReason.SIGNED_OUT)
    assert (await bo.claim(group.dialog, ann)).keys == ()
    assert (await ann.upload(2)).outcome is KeysOutcome.SIGNED_OUT
    ann.person.sign_in = new_id()
    await world.another_sign_in(ann.person)
    assert (await ann.upload(1, 2)).held == 1  # the number that was given out before counts still


async def test_keys_go_when_an_expired_sign_in_is_deleted(group: Group) -> None:
    await group.ann.upload(1)
    await group.world.pool.execute("DELETE FROM sign_ins WHERE sign_in_id = $1", group.ann.person.sign_in)
    assert (await group.bo.claim(group.dialog, group.ann)).keys == ()
    assert await count(group.world, "one_time_keys") == 0


async def test_a_sync_says_what_there_is_of_its_device(group: Group) -> None:
    world, ann = group.world, group.ann.person
    await group.ann.upload(1, 2, 3)
    await group.bo.claim(group.dialog, group.ann)
    await group.bo.claim(group.dialog, group.ann, limited=(group.ann,))
    written = (await world.say(group.dialog, ann), ann.n() - 1)[1]
    taken = await world.timelines.take_snapshot(ann.principal, ann.sign_in, None, window=1, events_max=9)
    assert taken.keys == KeysHeld(written, 1, 2, fallback_used=True)
    (other,) = await world.people(1)
    taken = await world.timelines.take_snapshot(other.principal, other.sign_in, None, window=1, events_max=9)
    assert taken.keys == KeysHeld()


class Log:
    """Ann's own log, and what her device appends to it."""

    def __init__(self, group: Group) -> None:
        self.group = group
        self.store = group.ann.store
        self.identity = OwnIdentity(group.ann.person.principal, 1)
        self.state, self.first = self.identity.start(b"", 1)

    def entry(self, state: LogState, action: LogAction, keys: DevicePublic | None = None) -> bytes:
        """An entry about Ann's device; the tables of the store do not keep when its keys came."""
        device = self.group.ann.person.device
        return next_entry(state, action, device, keys, at_ms=0, master=self.identity.master)

    async def append(self, before: LogState | None, *entries: bytes) -> KeysOutcome:
        """Append entries after what was there before."""
        after = extend(self.state if before is None else before, entries[before is None :])
        return await self.store.append_log(before, after, entries, 1)


@pytest.fixture
def log(group: Group) -> Log:
    """A log that has begun nowhere but in memory."""
    return Log(group)


async def test_a_log_is_read_as_it_was_written(group: Group, log: Log) -> None:
    ann, store = group.ann, log.store
    assert await store.read_log(ann.person.principal) is None
    added = log.entry(log.state, LogAction.ADDED, ann.public)
    assert await log.append(None, log.first, added) is KeysOutcome.OK
    state = extend(log.state, [added])
    assert await store.read_log(ann.person.principal) == state
    me = ann.person.principal
    asked = [(me, 1, 1), (group.bo.person.principal, 0, 0), (new_id(), 0, 0)]
    mine, bos = await store.read_identities(group.cy.person.principal, group.dialog, asked, entries_max=9) or []
    assert (mine.generation, mine.length, mine.head, mine.entries) == (1, 2, state.head, (added,))
    assert [(each.device, each.keys) for each in mine.devices] == [(ann.person.device, b"keys")]
    assert (bos.generation, bos.length, bos.head, bos.entries, len(bos.devices)) == (0, 0, b"", (), 1)
    (whole,) = await store.read_identities(me, group.dialog, [(me, 0, 9)], entries_max=1) or []
    assert whole.entries == (log.first,)
    found = await group.world.pool.fetch("SELECT device_id FROM key_devices($1)", [me])
    assert [row[0] for row in found] == [ann.person.device]


async def test_of_two_that_append_at_once_one_does(group: Group, log: Log) -> None:
    await log.append(None, log.first)
    rivals = [
        log.entry(log.state, LogAction.ADDED, group.ann.public),
        log.entry(log.state, LogAction.ADDED, fresh_keys()),
    ]
    await group.ann.upload()
    outcomes = await asyncio.gather(*(log.append(log.state, rivals[0]) for _ in range(4)))
    assert sorted(outcomes) == [KeysOutcome.OK] + [KeysOutcome.PASSED] * 3
    assert await log.append(log.state, rivals[1]) is KeysOutcome.PASSED
    started_again = OwnIdentity(group.ann.person.principal, 1).start(b"", 1)
    assert await log.store.append_log(None, started_again[0], [started_again[1]], 1) is KeysOutcome.PASSED


async def test_a_device_is_added_with_the_keys_that_it_has_uploaded(group: Group, log: Log) -> None:
    await log.append(None, log.first)
    added = log.entry(log.state, LogAction.ADDED, fresh_keys())
    assert await log.append(log.state, added) is KeysOutcome.MISSING
    assert await log.store.read_log(group.ann.person.principal) == log.state


async def test_a_log_is_given_back_with_devices_that_a_restore_has_lost(group: Group, log: Log) -> None:
    """Else their person could talk to nobody any more: all who have seen the whole log refuse a shorter one."""
    added = next_entry(log.state, LogAction.ADDED, new_id(), fresh_keys(), at_ms=1, master=log.identity.master)
    assert await log.append(None, log.first, added) is KeysOutcome.OK
    assert await group.world.pool.fetch("SELECT key_devices($1)", [group.ann.person.principal]) == []


async def test_a_log_does_not_make_the_device_of_somebody_else_a_reader(group: Group, log: Log) -> None:
    device = group.bo.person.device
    theirs = next_entry(log.state, LogAction.ADDED, device, group.bo.public, at_ms=1, master=log.identity.master)
    assert await log.append(None, log.first, theirs) is KeysOutcome.MISSING
    await group.world.pool.execute("DELETE FROM device_keys WHERE device_id = $1", device)
    assert await log.append(None, log.first, theirs) is KeysOutcome.OK
    await group.bo.upload()
    assert await group.world.pool.fetch("SELECT key_devices($1)", [group.ann.person.principal]) == []


async def test_a_device_that_is_removed_has_no_keys_and_no_sign_in(group: Group, log: Log) -> None:
    added = log.entry(log.state, LogAction.ADDED, group.ann.public)
    await log.append(None, log.first, added)
    with_ann = extend(log.state, [added])
    removed = log.entry(with_ann, LogAction.REMOVED)
    assert await log.append(with_ann, removed) is KeysOutcome.OK
    assert (await group.bo.claim(group.dialog, group.ann)).keys == ()
    assert (await group.ann.upload()).outcome is KeysOutcome.SIGNED_OUT
    assert await log.store.read_log(group.ann.person.principal) == extend(with_ann, [removed])


async def test_a_log_that_names_the_device_of_somebody_else_takes_nothing_from_it(group: Group, log: Log) -> None:
    theirs = group.bo.person.device
    add = next_entry(log.state, LogAction.ADDED, theirs, fresh_keys(), at_ms=1, master=log.identity.master)
    added = extend(log.state, [add])
    remove = next_entry(added, LogAction.REMOVED, theirs, at_ms=1, master=log.identity.master)
    await group.bo.upload(1)
    assert await log.append(None, log.first, add, remove) is KeysOutcome.OK
    assert one(await group.cy.claim(group.dialog, group.bo)).key == StoredKey(1, b"key 1")
    assert (await group.bo.upload()).outcome is KeysOutcome.OK


async def test_a_removal_waits_for_an_upload_of_the_device_and_the_upload_not_for_it(group: Group, log: Log) -> None:
    added = log.entry(log.state, LogAction.ADDED, group.ann.public)
    await log.append(None, log.first, added)
    with_ann = extend(log.state, [added])
    ann, pool = group.ann.person, group.world.pool
    async with pool.acquire() as upload, asyncio.TaskGroup() as tasks:
        async with upload.transaction():
            await upload.execute("SELECT FROM sign_ins WHERE sign_in_id = $1 FOR SHARE", ann.sign_in)
            removal = tasks.create_task(log.append(with_ann, log.entry(with_ann, LogAction.REMOVED)))
            while not await pool.fetchval(_WAITING_REMOVALS):
                pass
            await upload.execute("SELECT FROM device_keys WHERE device_id = $1 FOR UPDATE NOWAIT", ann.device)
        assert await removal is KeysOutcome.OK


async def test_keys_that_change_are_those_of_the_newest_entry(group: Group, log: Log) -> None:
    added = log.entry(log.state, LogAction.ADDED, group.ann.public)
    await log.append(None, log.first, added)
    with_ann = extend(log.state, [added])
    next_keys = fresh_keys()
    await group.ann.upload(generation=2, public=next_keys)
    assert await count(group.world, "key_devices(ARRAY(SELECT principal_id FROM identities))") == 0
    changed = log.entry(with_ann, LogAction.KEYS_CHANGED, next_keys)
    assert await log.append(with_ann, changed) is KeysOutcome.OK
    assert await count(group.world, "key_devices(ARRAY(SELECT principal_id FROM identities))") == 1
    assert await log.store.read_log(group.ann.person.principal) == extend(with_ann, [changed])


async def test_a_new_identity_takes_the_place_of_the_one_before(group: Group, log: Log) -> None:
    me = group.ann.person.principal
    await log.append(None, log.first, log.entry(log.state, LogAction.ADDED, group.ann.public))
    assert await log.store.put_identity(me, log.state.master, b"m", b"s", b"u") is KeysOutcome.OK
    before = await log.store.read_log(me)
    assert before is not None
    after, first = OwnIdentity(me, 2).start(before.head, 1)
    assert await log.store.append_log(before, after, [first], 1) is KeysOutcome.OK
    assert await log.store.read_log(me) == structs.replace(after, previous=b"")  # the entries say it to who reads them
    (row,) = await log.store.read_identities(me, group.dialog, [(me, 1, 2)], entries_max=9) or []
    assert (row.generation, row.entries, row.master) == (2, (first,), b"")
    assert await log.store.put_identity(me, log.state.master, b"m", b"s", b"u") is KeysOutcome.PASSED
    assert await log.store.put_identity(me, after.master, b"m", b"s", b"u") is KeysOutcome.OK


async def test_the_log_stays_with_a_person_who_is_deleted_and_purged(group: Group, log: Log) -> None:
    world, me = group.world, group.ann.person.principal
    await log.append(None, log.first, log.entry(log.state, LogAction.ADDED, group.ann.public))
    await world.pool.execute("SELECT delete_person(1, $1)", me)
    await world.pool.execute("SELECT purge_person(2, $1, 100)", me)
    assert (await group.bo.claim(group.dialog, group.ann)).keys == ()
    assert await log.store.read_log(me) is not None
