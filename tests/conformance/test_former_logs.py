"""Logs of identities and of members that were: what they have signed can still be checked."""

from __future__ import annotations

import pytest

from protocol.bodies import LogHead, MemberRemoved
from protocol.device_log import fold
from protocol.dialog_types import DialogType
from protocol.limits import FORMER_IDENTITIES_MAX
from storage.device_keys import DeviceKeyStore, IdentityRow
from tests.support.device_logs import LoggedPerson
from tests.support.world import Person, World

pytestmark = pytest.mark.anyio


class Asker:
    """Bo, who is in a group with Ann, asks for her log."""

    def __init__(self, store: DeviceKeyStore, bo: Person, ann: LoggedPerson, dialog: bytes) -> None:
        self.store, self.bo, self.ann, self.dialog = store, bo, ann, dialog

    async def read(self, generation: int = 0, length: int = 0, entries_max: int = 100) -> IdentityRow:
        """The answer to who has so much of her log."""
        known = [(self.ann.person.principal, generation, length)]
        rows = await self.store.read_identities(self.bo.principal, self.dialog, known, entries_max=entries_max)
        assert rows is not None
        (row,) = rows
        return row


@pytest.fixture
async def bo(world: World, device_keys: DeviceKeyStore) -> Asker:
    ann = LoggedPerson(device_keys, await world.person())
    others = await world.people(2)
    dialog = await world.create(DialogType.GROUP, others[1], others[0], ann.person)
    return Asker(device_keys, others[0], ann, dialog)


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


async def test_the_log_of_who_was_a_member_can_be_read_and_that_of_a_stranger_cannot(world: World, bo: Asker) -> None:
    head = await bo.ann.start()
    members = await world.timelines.read_members(bo.bo.principal, [bo.dialog], after=bytes(16), limit=9)
    admin = next(each.principal for each in members[bo.dialog] if each.role)
    await world.act(MemberRemoved, bo.dialog, Person(admin), bo.ann.person, n=0)
    given = await bo.read()
    assert LogHead(given.generation, given.length, given.head) == head
    stranger = LoggedPerson(bo.store, await world.person())
    await stranger.start()
    known = [(stranger.person.principal, 0, 0)]
    assert await bo.store.read_identities(bo.bo.principal, bo.dialog, known, entries_max=1) == []
    assert await bo.store.read_identities(bo.ann.person.principal, bo.dialog, known, entries_max=1) is None
