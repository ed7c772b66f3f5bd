"""A device log that grows is announced in every sealed dialog of its person, once of each length."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from protocol.bodies import (
    DevicesChanged,
    LogHead,
    MemberLeft,
    MemberRemoved,
    MembersAdded,
    Promoted,
    decode_body,
    tag_of,
)
from protocol.dialog_types import DialogType, Mode
from protocol.ids import NIL, new_id
from server.writing import log_announcer
from server.writing.log_announcer import LogAnnouncer
from storage.device_keys import DeviceKeyStore
from storage.rows import ChangeEntry, Entry, Verdict, VerdictCode
from storage.sealed_rosters import SealedRosters
from storage.unavailable import StorageUnavailableError
from tests.support.clock import ManualClock
from tests.support.device_logs import LoggedPerson
from tests.support.lanes import Lanes, lanes
from tests.support.sealing import keys_end
from tests.support.world import Person, World

pytestmark = pytest.mark.anyio

_SAID = "SELECT seq, body FROM journal WHERE dialog_id = $1 AND tag = $2 ORDER BY seq"


class Home:
    """Ann, whose log is begun, in dialogs with Bo and Cy; and what announces her log."""

    def __init__(self, world: World, rosters: SealedRosters, writing: Lanes, ann: LoggedPerson) -> None:
        self.world, self.rosters, self.writing, self.ann = world, rosters, writing, ann
        self.announcer = LogAnnouncer(rosters, writing.pipeline)

    async def sealed(self, *others: Person) -> bytes:
        """A sealed group of Ann and others."""
        others = (*others, *await self.world.people(2 - len(others)))
        return await self.world.create(DialogType.GROUP, self.ann.person, *others, mode=Mode.SEALED)

    async def announce(self) -> int:
        """Whatever there is; the number of steps."""
        steps = 0
        while await self.announcer.announce_some():
            steps += 1
        return steps

    async def said(self, dialog: bytes) -> list[LogHead]:
        """What was announced in a dialog."""
        rows = await self.world.pool.fetch(_SAID, dialog, tag_of(DevicesChanged))
        found = [decode_body(body) for _, body in rows]
        assert all(body == DevicesChanged(self.ann.person.principal, body.log) for body in found)
        return [body.log for body in found]


@pytest.fixture
async def home(
    world: World, rosters: SealedRosters, device_keys: DeviceKeyStore, clock: ManualClock
) -> AsyncIterator[Home]:
    ann = LoggedPerson(device_keys, await world.person())
    await ann.start()
    async with lanes(world, clock) as writing:
        home = Home(world, rosters, writing, ann)
        await home.announce()
        yield home


async def test_a_log_is_announced_in_every_sealed_dialog_of_its_person(home: Home) -> None:
    world, ann = home.world, home.ann.person
    bo, cy = await world.people(2)
    direct = await world.create(DialogType.DIRECT, ann, bo, mode=Mode.SEALED)
    own = await world.create(DialogType.SELF, ann, mode=Mode.SEALED)
    group = await home.sealed(bo, cy)
    plain = await world.create(DialogType.GROUP, ann, bo, cy)
    left = await home.sealed(bo, cy)
    await world.act(MemberLeft, left, ann)
    grown = await home.ann.add(ann)
    await home.announce()
    assert [await home.said(dialog) for dialog in (direct, own, group, plain, left)] == [[grown]] * 3 + [[]] * 2
    assert {event.device for each in home.writing.routed for event in each.events} == {NIL}


async def test_it_is_announced_once_and_the_newest_length_only(home: Home) -> None:
    dialog = await home.sealed()
    await home.ann.add(home.ann.person)
    newest = await home.ann.remove(home.ann.person)
    await home.announce()
    again = await home.ann.start()
    await home.announce()
    assert await home.announce() == 0
    assert await home.said(dialog) == [newest, again]


async def test_a_log_is_announced_once_more_when_keys_of_a_device_in_it_come_back(home: Home) -> None:
    """Who has shared a session meanwhile has left the device out, and would go on with that session."""
    dialog, moved = await home.sealed(), await home.sealed()
    person = home.ann.person
    log = await home.ann.add(person)
    await home.announce()
    await home.world.pool.execute("UPDATE journal SET at_ms = at_ms - 1000")
    await home.ann.upload_again(person)
    assert await home.announce() == 0, "they were there all the time"
    await keys_end(home.world, person)
    person.sign_in = new_id()
    await home.world.another_sign_in(person)
    await home.ann.upload_again(person)
    step = await home.rosters.next_announcement(limit=9)
    assert step is not None
    assert sorted(step.dialogs) == sorted([dialog, moved])
    result = await home.world.act(MembersAdded, moved, person, await home.world.person(), signed_at=2)
    assert result.verdict.code is VerdictCode.OK
    await home.announce()
    entry = ChangeEntry(dialog, person.principal, NIL, 0, DevicesChanged(person.principal, log))
    assert (await home.world.change(entry)).verdict.code is VerdictCode.DUPLICATE
    assert [await home.said(each) for each in (dialog, moved)] == [[log, log], [log]]


async def test_who_brings_the_log_with_them_is_not_announced_again(home: Home) -> None:
    bo, cy, di = await home.world.people(3)
    group = await home.world.create(DialogType.GROUP, bo, cy, di, mode=Mode.SEALED)
    await home.ann.add(home.ann.person)
    await home.world.act(MembersAdded, group, bo, home.ann.person)
    await home.announce()
    assert await home.said(group) == []
    await home.world.act(MemberRemoved, group, bo, home.ann.person)
    newest = await home.ann.remove(home.ann.person)
    await home.world.act(MembersAdded, group, bo, home.ann.person)
    await home.announce()
    assert (await home.said(group), home.ann.head) == ([], newest)


async def test_a_log_that_grows_while_it_is_announced_is_announced_from_the_first_dialog_on(home: Home) -> None:
    dialogs = sorted([await home.sealed() for _ in range(3)])
    first = await home.ann.add(home.ann.person)
    step = await home.rosters.next_announcement(limit=2)
    assert step is not None
    assert (step.log, step.dialogs, step.reached, step.last) == (first, tuple(dialogs[:2]), dialogs[1], False)
    second = await home.ann.remove(home.ann.person)
    await home.rosters.note_announced(step, step.reached)
    await home.rosters.note_announced(step, None)
    await home.announce()
    assert [await home.said(dialog) for dialog in dialogs] == [[second]] * 3


async def test_a_change_of_role_meanwhile_changes_nothing_of_it(home: Home) -> None:
    dialog = await home.sealed()
    log = await home.ann.add(home.ann.person)
    await home.world.act(Promoted, dialog, home.ann.person, home.ann.person)
    await home.announce()
    assert await home.said(dialog) == [log]


async def test_people_take_turns(home: Home, device_keys: DeviceKeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_announcer, "DIALOGS_PER_STEP", 2)
    many = [await home.sealed() for _ in range(5)]
    bo = LoggedPerson(device_keys, await home.world.person())
    one = await home.world.create(DialogType.DIRECT, bo.person, await home.world.person(), mode=Mode.SEALED)
    log = await home.ann.add(home.ann.person)
    await bo.start()
    await home.announcer.announce_some()
    await home.announcer.announce_some()
    rows = await home.world.pool.fetch(_SAID, one, tag_of(DevicesChanged))
    assert (len(rows), [len(await home.said(dialog)) for dialog in sorted(many)]) == (1, [1, 1, 0, 0, 0])
    await home.announce()
    assert [await home.said(dialog) for dialog in many] == [[log]] * 5


async def test_a_dialog_that_cannot_take_it_now_gets_it_at_the_next_turn(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialogs = sorted([await home.sealed() for _ in range(3)])
    log = await home.ann.add(home.ann.person)
    append, held = home.writing.pipeline.append, {dialogs[1]}

    async def hold(entry: Entry | ChangeEntry) -> Verdict:
        return Verdict(VerdictCode.UNAVAILABLE) if entry.dialog in held else await append(entry)

    monkeypatch.setattr(home.writing.pipeline, "append", hold)
    assert await home.announcer.announce_some()
    assert not await home.announcer.announce_some()
    assert [len(await home.said(dialog)) for dialog in dialogs] == [1, 0, 0]
    held.clear()
    await home.announce()
    assert [await home.said(dialog) for dialog in dialogs] == [[log]] * 3


async def test_one_whose_reply_was_lost_is_delivered_once(home: Home) -> None:
    dialog = await home.sealed()
    log = await home.ann.add(home.ann.person)
    me = home.ann.person.principal
    entry = ChangeEntry(dialog, me, NIL, 0, DevicesChanged(me, log))
    first, again = await home.world.change(entry), await home.world.change(entry)
    assert (first.verdict.code, again.verdict.code) == (VerdictCode.OK, VerdictCode.DUPLICATE)
    assert first.events == again.events != ()
    assert first.verdict.keys_seq == first.verdict.seq


async def test_the_devices_of_who_is_suspended_are_announced_and_those_of_a_stranger_are_not(home: Home) -> None:
    dialog = await home.sealed()
    log = await home.ann.add(home.ann.person)
    await home.world.pool.execute("UPDATE principals SET status = 2 WHERE principal_id = $1", home.ann.person.principal)
    await home.announce()
    assert await home.said(dialog) == [log]
    stranger = (await home.world.person()).principal
    refused = await home.world.change(ChangeEntry(dialog, stranger, NIL, 0, DevicesChanged(stranger, log)))
    assert refused.verdict.code is VerdictCode.NOT_FOUND


async def test_without_a_database_nothing_is_noted(home: Home, rosters: SealedRosters) -> None:
    await home.ann.add(home.ann.person)
    step = await rosters.next_announcement(limit=1)
    assert step is not None
    await home.world.pool.close()
    with pytest.raises(StorageUnavailableError):
        await rosters.next_announcement(limit=1)
    with pytest.raises(StorageUnavailableError):
        await rosters.note_announced(step, None)
