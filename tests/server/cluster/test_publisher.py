"""Publishing: to the nodes of those whom it concerns, once each, and a number for whatever could not be sent."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, cast

import msgspec
import pytest

from protocol import bodies as b
from protocol.bodies import TimelineEventRaw
from protocol.dialog_types import DialogType, Mode, Role
from protocol.ids import new_id
from server.cluster.links import Links
from server.cluster.messages import NodeEvents, NodeSignals, NodeTick, decode_message
from server.cluster.publisher import Publisher
from server.delivery.registry import Registry
from server.delivery.rooms import Rooms
from server.writing.durable import DurableEvents
from storage.bus import ConnectionKey, Located
from storage.local.network import LocalBus, LocalPresence
from storage.nodes import LARGE_ABOVE
from storage.rows import ChangeEntry, DialogRoster
from tests.support.no_shares import NO_SHARES
from tests.support.receiver import Received

pytestmark = pytest.mark.anyio


class CountingPresence(LocalPresence):
    """A store that counts lookups."""

    def __init__(self) -> None:
        super().__init__()
        self.lookups: list[int] = []

    async def locate(self, principals: Sequence[bytes]) -> Located:
        self.lookups.append(len(principals))
        return await super().locate(principals)


class Rosters:
    """Of the reads of timelines the one that a room needs; `roster_seq` is that of every dialog."""

    def __init__(self) -> None:
        self.roster_seq = 1
        self.reads = 0
        self.members: dict[bytes, list[bytes]] = {}

    async def read_roster(self, dialog: bytes) -> DialogRoster:
        self.reads += 1
        return DialogRoster(DialogType.GROUP, self.roster_seq, dict.fromkeys(self.members.get(dialog, []), 1))


class Office:
    """Node 1, which publishes to nodes 2 and 3."""

    def __init__(self) -> None:
        self.store, self.bus, self.rosters = CountingPresence(), LocalBus(), Rosters()
        self.links = Links(self.bus, incarnation=1)
        self.links.keep([2, 3])
        rooms = Rooms(cast("Any", self.rosters), NO_SHARES, Registry(), asyncio.ensure_future, rooms_max=100)
        self.epoch = 9
        self.publisher = Publisher(self.store, self.links, rooms, get_epoch=lambda: self.epoch)

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls) -> AsyncIterator[tuple[Office, Received, Received]]:
        office = cls()
        work = asyncio.ensure_future(office.publisher.run())
        async with Received.on(office.bus, 2) as second, Received.on(office.bus, 3) as third:
            for node in (2, 3):
                office.links.note_presence(node, await office.store.read_token(), registers_rooms=True)
            yield office, second, third
            work.cancel()
            await asyncio.wait({work})

    async def person_at(self, *nodes: int) -> bytes:
        person = new_id()
        await self.store.put([ConnectionKey(person, node, 1) for node in nodes])
        return person

    def dialog_of(self, *members: bytes) -> bytes:
        dialog = new_id()
        self.rosters.members[dialog] = list(members)
        return dialog

    async def publish(self, *durable: DurableEvents) -> None:
        """Publish, then say so with a tick."""
        self.publisher.publish(durable)
        await self.publisher.wait_settled()
        self.links.tick(9, 100, "mine")


def ticked(k: int) -> NodeTick:
    return NodeTick(1, 9, k, 100, "mine", registers_rooms=True)


def written(
    dialog: bytes, *seqs: int, change: ChangeEntry | None = None, roster_seq: int = 1, member_count: int = 2
) -> DurableEvents:
    events = tuple(TimelineEventRaw(dialog, seq, dialog, dialog, seq, 0, 0, msgspec.Raw(b"\x91\x05")) for seq in seqs)
    return DurableEvents(dialog, events, roster_seq, change, member_count)


def added(dialog: bytes, seq: int, *members: bytes, member_count: int) -> DurableEvents:
    entry = ChangeEntry(dialog, new_id(), new_id(), 1, b.MembersAdded(list(members)))
    return written(dialog, seq, change=entry, roster_seq=seq, member_count=member_count)


async def read(received: Received, *, messages: int) -> list[NodeEvents | NodeTick]:
    read = [decode_message(raw) for raw in await received.until(messages=messages)]
    return [message for message in read if not isinstance(message, NodeSignals)]


async def test_a_row_goes_once_to_each_node_with_a_member_and_to_no_other() -> None:
    async with Office.open() as (office, second, third):
        dialog = office.dialog_of(await office.person_at(1), await office.person_at(2), await office.person_at(2))
        await office.publish(written(dialog, 7, 8))
        [events, tick] = await read(second, messages=2)
        assert isinstance(events, NodeEvents)
        assert (events.source, events.epoch, events.k, events.roster_seqs) == (1, 9, 1, [1, 1])
        assert [event.seq for event in events.events] == [7, 8]
        assert tick == ticked(1)
        assert await read(third, messages=1) == [ticked(0)]


async def test_all_that_waits_is_looked_up_at_once_and_sent_in_one_message() -> None:
    async with Office.open() as (office, second, _):
        person = await office.person_at(2)
        one, other = office.dialog_of(person), office.dialog_of(person, await office.person_at(3))
        office.publisher.publish([written(one, 1)])
        office.publisher.publish([written(other, 1), written(one, 2)])
        await office.publisher.wait_settled()
        [events] = await read(second, messages=1)
        assert isinstance(events, NodeEvents)
        assert [(event.dialog, event.seq) for event in events.events] == [(one, 1), (other, 1), (one, 2)]
        assert office.store.lookups == [2]


async def test_an_event_of_a_large_dialog_goes_to_the_nodes_with_a_room_and_no_roster_is_read() -> None:
    async with Office.open() as (office, second, third):
        crowd = new_id()
        await office.store.put([ConnectionKey(crowd, 3, 1)])
        await office.publish(written(crowd, 1, member_count=LARGE_ABOVE + 1))
        assert [type(message) for message in await read(third, messages=2)] == [NodeEvents, NodeTick]
        assert await read(second, messages=1) == [ticked(0)]
        assert (office.store.lookups, office.rosters.reads) == ([1], 0)


async def test_the_event_that_makes_a_dialog_large_goes_to_its_members() -> None:
    async with Office.open() as (office, second, third):
        dialog, new = office.dialog_of(await office.person_at(3)), await office.person_at(2)
        office.rosters.roster_seq = 2
        await office.publish(added(dialog, 2, new, member_count=LARGE_ABOVE + 1))
        for each in (second, third):
            assert [type(message) for message in await read(each, messages=2)] == [NodeEvents, NodeTick]


async def test_who_is_added_to_a_large_dialog_learns_of_it_by_name() -> None:
    async with Office.open() as (office, second, third):
        crowd, new = new_id(), await office.person_at(2)
        await office.store.put([ConnectionKey(crowd, 3, 1)])
        await office.publish(added(crowd, 2, new, member_count=LARGE_ABOVE + 2))
        for each in (second, third):
            assert [type(message) for message in await read(each, messages=2)] == [NodeEvents, NodeTick]


async def test_a_node_of_an_older_version_gets_all_of_large_dialogs() -> None:
    async with Office.open() as (office, second, third):
        office.links.note_presence(3, await office.store.read_token(), registers_rooms=False)
        await office.publish(written(new_id(), 1, member_count=LARGE_ABOVE + 1))
        assert [type(message) for message in await read(third, messages=2)] == [NodeEvents, NodeTick]
        assert await read(second, messages=1) == [ticked(0)]


@pytest.mark.parametrize("why", ["the roster is newer", "an earlier call wrote it"])
async def test_every_node_gets_an_event_whose_members_are_not_known(why: str) -> None:
    async with Office.open() as (office, second, third):
        dialog = office.dialog_of(await office.person_at(3))  # and one at node 2, who was removed by event 2
        if why == "the roster is newer":
            office.rosters.roster_seq = 2
            await office.publish(written(dialog, 1))
        else:
            await office.publish(written(dialog, 1, member_count=0))
        for each in (second, third):
            assert [type(message) for message in await read(each, messages=2)] == [NodeEvents, NodeTick]


CHANGES: dict[str, Callable[[bytes], b.Body]] = {
    "created": lambda who: b.DialogCreated(
        DialogType.GROUP, Mode.OPEN, "", "", "", b.Settings(), [b.MemberRole(who, Role.ADMIN)]
    ),
    "added": lambda who: b.MembersAdded([who]),
    "removed": b.MemberRemoved,
    "left": lambda _who: b.MemberLeft(),
    "blocked": b.Blocked,
}


@pytest.mark.parametrize("change", CHANGES)
async def test_whom_a_change_moves_learns_of_it_whatever_the_roster_says(change: str) -> None:
    async with Office.open() as (office, second, _):
        moved, dialog = await office.person_at(2), office.dialog_of(new_id())
        author = moved if change == "left" else new_id()
        entry = ChangeEntry(dialog, author, new_id(), 1, CHANGES[change](moved))
        await office.publish(written(dialog, 2, change=entry))
        assert isinstance((await read(second, messages=2))[0], NodeEvents)


async def test_an_event_goes_to_the_members_of_a_roster_as_new_as_it_is() -> None:
    async with Office.open() as (office, second, third):
        dialog = office.dialog_of(await office.person_at(3))
        await office.publish(written(dialog, 1))
        assert isinstance((await read(third, messages=2))[0], NodeEvents)
        office.rosters.members[dialog].append(await office.person_at(2))  # by an event of another node
        office.rosters.roster_seq = 2
        await office.publish(written(dialog, 3, roster_seq=2))
        assert isinstance((await read(second, messages=3))[1], NodeEvents)


async def test_a_failed_lookup_uses_a_number_toward_everybody() -> None:
    async with Office.open() as (office, second, third):
        dialog = office.dialog_of(await office.person_at(2))
        office.store.away = True
        await office.publish(written(dialog, 1))
        for each in (second, third):
            assert await read(each, messages=1) == [ticked(1)]
        assert office.links.spent == 2


async def test_a_node_whose_presence_is_whole_under_another_token_may_have_been_overlooked() -> None:
    async with Office.open() as (office, second, third):
        dialog = office.dialog_of(await office.person_at(2))
        office.links.note_presence(3, "of an older store", registers_rooms=True)
        await office.publish(written(dialog, 1))
        assert [message.k for message in await read(second, messages=2)] == [1, 1]
        assert [message.k for message in await read(third, messages=1)] == [1]


async def test_what_is_above_the_bound_uses_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.cluster.publisher._ROWS_MAX", 1)
    async with Office.open() as (office, second, third):
        dialog = office.dialog_of(await office.person_at(2))
        await office.publish(written(dialog, 1), written(dialog, 2), written(dialog, 3))
        assert [message.k for message in await read(third, messages=1)] == [2]
        assert [message.k for message in await read(second, messages=2)] == [3, 3]


async def test_a_fault_while_sending_uses_a_number_and_the_next_row_is_sent(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with Office.open() as (office, second, _):
        dialog = office.dialog_of(await office.person_at(2))
        with monkeypatch.context() as patched:
            patched.setattr(office.store, "locate", None)
            await office.publish(written(dialog, 1))
        await office.publish(written(dialog, 2))
        assert [message.k for message in await read(second, messages=3)] == [1, 2, 2]
        assert "could not be sent" in caplog.text


async def test_what_waits_when_an_epoch_begins_is_not_sent_in_it() -> None:
    async with Office.open() as (office, second, _):
        dialog = office.dialog_of(await office.person_at(2))
        office.publisher.publish([written(dialog, 1, roster_seq=50)])  # of a history that is lost
        office.epoch = 10
        await office.publish(written(dialog, 2))
        [events, tick] = await read(second, messages=2)
        assert isinstance(events, NodeEvents)
        assert (events.epoch, events.k, [event.seq for event in events.events]) == (10, 2, [2])
        assert tick.k == 2


async def test_a_node_without_others_looks_nothing_up() -> None:
    async with Office.open() as (office, _, _third):
        office.links.keep([])
        await office.publish(written(office.dialog_of(new_id()), 1))
        assert office.store.lookups == []
