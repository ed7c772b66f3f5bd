"""Logs of identities and of members that were: what they have signed can still be checked."""

from __future__ import annotations

import pytest

from protocol.bodies import DevicesChanged, LogHead, MemberLeft, MembersAdded
from protocol.device_log import fold
from protocol.dialog_types import DialogType, Mode
from protocol.ids import NIL
from protocol.limits import FORMER_IDENTITIES_MAX
from storage.device_keys import DeviceKeyStore, IdentityRow
from storage.rows import ChangeEntry, VerdictCode
from tests.support.device_logs import LoggedPerson
from tests.support.world import Person, World

pytestmark = pytest.mark.anyio


class Asker:
    """Bo, who is in a sealed group with Ann, asks for her log."""

    def __init__(self, world: World, store: DeviceKeyStore, people: list[Person], dialog: bytes) -> None:
        self.admin, self.bo, ann = people
        self.store, self.ann, self.dialog = store, LoggedPerson(store, ann), dialog
        self._world = world

    async def read(self, generation: int = 0, length: int = 0, entries_max: int = 100) -> IdentityRow:
        """The answer to who has so much of her log."""
        known = [(self.ann.person.principal, generation, length)]
        rows = await self.store.read_identities(self.bo.principal, self.dialog, known, entries_max=entries_max)
        assert rows is not None
        (row,) = rows
        return row

    async def leave_after(self, log: LogHead) -> None:
        """Ann leaves once the group has named so much of her log."""
        ann = self.ann.person
        named = ChangeEntry(self.dialog, ann.principal, NIL, 0, DevicesChanged(ann.principal, log))
        assert (await self._world.change(named)).verdict.code is VerdictCode.OK
        assert (await self._world.act(MemberLeft, self.dialog, ann)).verdict.code is VerdictCode.OK


@pytest.fixture
async def bo(world: World, device_keys: DeviceKeyStore) -> Asker:
    people = await world.people(3)
    return Asker(world, device_keys, people, await world.create(DialogType.GROUP, *people, mode=Mode.SEALED))


async def test_the_log_of_an_identity_before_can_be_read_to_its_end(bo: Asker) -> None:
    await bo.ann.start()
    former = await bo.ann.add(bo.ann.person)
    newest = await bo.ann.start()
    page = await bo.read(1, 0, entries_max=1)
    assert (LogHead(page.generation, page.length, page.head), len(page.entries)) == (former, 1)
    rest = await bo.read(1, 1)
    log = fold(bo.ann.person.principal, [*page.entries, *rest.entries])
    assert (log.generation, log.head) == (1, former.head)
    for known in [(0, 0), (1, 2), (2, 0), (7, 0)]:
        given = await bo.read(*known)
        assert (LogHead(given.generation, given.length, given.head), len(given.entries)) == (newest, 1)


async def test_the_newest_of_many_identities_can_be_read(bo: Asker) -> None:
    for _ in range(FORMER_IDENTITIES_MAX + 3):
        await bo.ann.start()
    given = [(await bo.read(generation)).generation for generation in range(1, FORMER_IDENTITIES_MAX + 4)]
    newest = FORMER_IDENTITIES_MAX + 3
    assert given == [newest, newest, *range(3, newest + 1)]


async def test_of_who_has_left_the_log_ends_where_the_dialog_has_last_named_it(world: World, bo: Asker) -> None:
    await bo.ann.start()
    last = await bo.ann.add(bo.ann.person)
    await bo.leave_after(last)
    tablet = Person(bo.ann.person.principal)
    await world.pool.execute("INSERT INTO devices VALUES ($1, $2, 0)", tablet.device, tablet.principal)
    await world.another_sign_in(tablet)
    newest = await bo.ann.add(tablet)
    assert newest.length > last.length
    for known, entries in [((0, 0), 2), ((1, 1), 1), ((1, 2), 0), ((1, 3), 0)]:
        given = await bo.read(*known)
        assert (LogHead(given.generation, given.length, given.head), len(given.entries)) == (last, entries)
        assert (given.former, given.devices, given.master) == (True, (), b"")
    stranger = LoggedPerson(bo.store, await world.person())
    await stranger.start()
    asked = [(stranger.person.principal, 0, 0)]
    assert await bo.store.read_identities(bo.bo.principal, bo.dialog, asked, entries_max=1) == []
    assert await bo.store.read_identities(bo.ann.person.principal, bo.dialog, asked, entries_max=1) is None


async def test_of_who_has_left_another_identity_is_not_shown_and_theirs_to_its_end(bo: Asker) -> None:
    await bo.leave_after(await bo.ann.start())
    whole = await bo.ann.add(bo.ann.person)
    await bo.ann.start()
    for known, entries in [((0, 0), 2), ((1, 1), 1), ((1, 2), 0)]:
        given = await bo.read(*known)
        assert (LogHead(given.generation, given.length, given.head), len(given.entries)) == (whole, entries)


async def test_who_comes_back_is_shown_as_they_are(world: World, bo: Asker) -> None:
    await bo.leave_after(await bo.ann.start())
    head = await bo.ann.add(bo.ann.person)
    await world.act(MembersAdded, bo.dialog, bo.admin, bo.ann.person, signed_at=3)
    given = await bo.read()
    assert (given.former, LogHead(given.generation, given.length, given.head)) == (False, head)
    assert [each.device for each in given.devices] == [bo.ann.person.device]
