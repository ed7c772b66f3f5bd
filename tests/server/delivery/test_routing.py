"""Who gets an event, also members who join or leave at that moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from protocol.bodies import MemberRemoved, MembersAdded, TimelineEvent
from protocol.commands import Add, Create, Remove, Send
from protocol.dialog_types import DialogType, Mode
from protocol.events import DialogState
from server.delivery.prepared_message import PreparedEvents
from server.delivery.presence import Presence
from server.delivery.routing import Router
from storage.rows import DialogRoster
from tests.server.delivery.hall import Hall, Listener
from tests.support.clock import ManualClock
from tests.support.harness import Running
from tests.support.world import Person, World

pytestmark = pytest.mark.anyio


class CatchingUp(Listener):
    """A listener that reads the timeline when the test says so; what is pushed until then is held, as in an outbox.

    `seqs`: what it has read, once each as clients take it; `live`: what came without having been read.
    """

    def __init__(self, person: Person) -> None:
        super().__init__(person)
        self.held: list[int] = []
        self.live: list[int] = []

    def push_events(self, prepared: PreparedEvents) -> None:
        (self.held if self.missed else self.live).extend(event.seq for event in prepared.events)

    def catch_up(self, head: int) -> None:
        """Read what was missed, up to the head, and be live."""
        if self.missed:
            self.seqs += [seq for seq in range(min(self.missed), head + 1) if seq not in self.seqs]
            self.live += [seq for seq in self.held if seq > head]
        self.missed, self.held = [], []


@pytest.fixture
async def hall(database_url: str) -> AsyncIterator[Hall]:
    world = await World.open(database_url)
    yield Hall(world)
    await world.close()


def join(hall: Hall, person: Person) -> CatchingUp:
    listener = CatchingUp(person)
    hall.registry.attach(listener)
    return listener


def router_of(hall: Hall) -> Router:
    return Router(hall.rooms, Presence(hall.registry, ManualClock()))


@pytest.mark.parametrize("first", ["the roster", "the session"])
@pytest.mark.parametrize("creates", [True, False])
async def test_who_joins_while_a_roster_is_read_gets_a_state_first(hall: Hall, creates: bool, first: str) -> None:
    ann, bo, di, cy = await hall.world.people(4)
    router, new = router_of(hall), join(hall, cy)
    hall.timelines.gate = asyncio.Event()
    if creates:
        made, dialog = await hall.world.try_create(DialogType.GROUP, ann, bo, cy)
        opening = asyncio.ensure_future(hall.rooms.open(dialog, 1))  # as the publisher to other nodes does
        await asyncio.sleep(0)
    else:
        made = await hall.world.act(MembersAdded, await hall.world.create(DialogType.GROUP, ann, bo, di), ann, cy)
    [event] = made.events
    router.deliver(event, event.seq)
    assert new.missed == [event.seq]  # at once: what waits may be dropped
    if first == "the session":
        new.catch_up(event.seq)
    hall.timelines.gate.set()
    await hall.rooms.wait_settled()
    new.catch_up(event.seq)
    assert (new.seqs, new.live) == ([event.seq], [])
    if creates:
        assert (await opening).known_seq == event.seq


@pytest.mark.parametrize("first", ["the roster", "the session"])
async def test_who_joins_and_is_removed_while_a_roster_is_read_gets_all_of_it_once(hall: Hall, first: str) -> None:
    ann, bo, di, cy = await hall.world.people(4)
    router, new = router_of(hall), join(hall, cy)
    dialog = await hall.world.create(DialogType.GROUP, ann, bo, di)
    joins = await hall.world.act(MembersAdded, dialog, ann, cy)
    leaves = await hall.world.act(MemberRemoved, dialog, ann, cy)
    hall.timelines.gate = asyncio.Event()
    for event in (*joins.events, *leaves.events):
        router.deliver(event, event.seq)
    if first == "the session":
        new.catch_up(leaves.verdict.seq)
    hall.timelines.gate.set()
    await hall.rooms.wait_settled()
    new.catch_up(leaves.verdict.seq)
    assert (new.seqs, new.live) == ([joins.verdict.seq, leaves.verdict.seq], [])


async def test_who_is_removed_misses_nothing_that_waited_for_a_roster(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, bo, cy, di = await server.world.people(4)
    gate, read = asyncio.Event(), server.node.timelines.read_roster

    async def held_back(dialog: bytes) -> DialogRoster:
        await gate.wait()
        return await read(dialog)

    async with server.live(ann) as a, server.live(bo) as b:
        dialog = (await a.ask(Create(3, 1, DialogType.GROUP, [bo.principal, cy.principal], "g", mode=Mode.OPEN))).dialog
        await b.until(DialogState)
        await a.ask(Send(4, dialog, 2, b"one"))
        while (await b.until(TimelineEvent)).seq < 2:
            pass
        server.node.rooms.forget_rosters()
        monkeypatch.setattr(server.node.timelines, "read_roster", held_back)
        await a.ask(Add(5, dialog, 3, [di.principal]))
        await a.ask(Send(6, dialog, 4, b"two"))
        await a.ask(Remove(7, dialog, 5, bo.principal))
        events = [await b.until(TimelineEvent)]
        while not isinstance(events[-1].body, MemberRemoved):
            events.append(await b.until(TimelineEvent))
        gate.set()
        assert [event.seq for event in events] == [3, 4, 5]
