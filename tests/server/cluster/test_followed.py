"""Followed: what followers are shown is what the store has, whatever word was lost and in whatever order they come."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from protocol.codec import MSGPACK
from protocol.events import PresenceChanged
from protocol.ids import new_id
from server.cluster.followed import Followed
from server.cluster.links import Links
from server.cluster.messages import PresenceNoted
from server.delivery.presence import Presence
from server.delivery.registry import Registry
from storage.bus import ConnectionKey, Located
from storage.local.network import LocalBus, LocalPresence
from tests.server.delivery.stand_in import StandIn, frame_of
from tests.support.clock import ManualClock

pytestmark = pytest.mark.anyio

HERE, THERE, ELSEWHERE = 1, 2, 3
ANN, BO = new_id(), new_id()


class Store(LocalPresence):
    """A store that counts whom it was asked for, and lets a test do something before its answer comes."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.meanwhile = asyncio.sleep

    async def locate(self, principals: Sequence[bytes]) -> Located:
        self.asked += len(principals)
        located = await super().locate(principals)
        await self.meanwhile(0)
        return located


class Node:
    """The first of three nodes, where Ann follows Bo."""

    def __init__(self) -> None:
        self.store, self.clock, self.registry = Store(), ManualClock(), Registry()
        self.links = Links(LocalBus(), incarnation=HERE)
        self.presence = Presence(self.registry, self.clock)
        self.told: list[PresenceNoted] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.followed = Followed(
            self.store, self.links, self.presence, self.registry, tell=self.told.extend,
            spawn=lambda work: self._tasks.append(asyncio.ensure_future(work)),
        )  # fmt: skip
        self.registry.listener = self.followed.note
        self.ann = StandIn(ANN)

    async def open(self) -> None:
        """Begin with both other nodes whole, and Ann following."""
        await self.have_others(THERE, ELSEWHERE)
        self.presence.follow(self.ann, frozenset({BO}))
        self.ann.states.clear()

    async def have_others(self, *others: int) -> None:
        self.links.keep(others)
        for other in others:
            self.links.note_presence(other, await self.store.read_token(), registers_rooms=True)

    async def settle(self) -> None:
        """Let all lookups end."""
        while self._tasks:
            await self._tasks.pop()

    @property
    def shown(self) -> list[bool]:
        """What Ann was shown of Bo, one after the other."""
        changes = [MSGPACK.decode_server(frame[2:]) for frame in self.ann.states]
        return [each.online for each in changes if isinstance(each, PresenceChanged)]


@pytest.fixture
async def node() -> Node:
    made = Node()
    await made.open()
    return made


def bo_at(incarnation: int) -> ConnectionKey:
    return ConnectionKey(BO, incarnation, 1)


async def test_a_word_makes_it_look_and_the_store_decides(node: Node) -> None:
    await node.store.put([bo_at(THERE)])
    for _ in range(2):
        node.followed.hear(BO)
        await node.settle()
    assert node.shown == [True]
    node.store.remove([bo_at(THERE)])
    node.followed.hear(BO)
    await node.settle()
    assert node.ann.states[1:] == [frame_of(PresenceChanged(BO, False, node.clock.wall_ms()))]


async def test_nobody_is_looked_up_whom_nobody_follows(node: Node) -> None:
    node.followed.hear(new_id())
    await node.settle()
    assert node.store.asked == 0


async def test_words_that_change_places_show_what_is_so_at_last(node: Node) -> None:
    await node.store.put([bo_at(THERE)])
    node.followed.hear(BO)

    async def move(_s: float) -> None:
        node.store.meanwhile = asyncio.sleep
        node.store.remove([bo_at(THERE)])
        await node.store.put([bo_at(ELSEWHERE)])
        node.followed.hear(BO)  # that they left there, after the word that they came elsewhere

    node.store.meanwhile = move  # type: ignore[assignment]
    await node.settle()
    await node.settle()
    assert node.shown == [True]
    assert node.presence.find_shown_at({ELSEWHERE}) == [BO]


async def test_who_leaves_here_stays_online_while_they_are_at_another_node(node: Node) -> None:
    bo = StandIn(BO)
    node.registry.attach(bo)
    await node.store.put([bo_at(THERE)])
    node.registry.detach(bo)
    await node.settle()
    assert node.shown == [True]


async def test_others_are_told_after_the_store_has_it_of_the_first_connection_and_the_last(node: Node) -> None:
    first, second = StandIn(BO), StandIn(BO)
    node.registry.attach(first)
    await node.settle()
    assert node.told == []
    node.followed.note_arrival(BO)
    await node.settle()
    node.registry.attach(second)
    node.followed.note_arrival(BO)
    node.registry.detach(first)
    await node.settle()
    assert node.told == [PresenceNoted(BO, True)]
    node.registry.detach(second)
    await node.settle()
    assert node.told[1:] == [PresenceNoted(BO, False)]


async def test_who_was_at_a_node_that_is_gone_is_looked_for_at_once(node: Node) -> None:
    await node.store.put([bo_at(THERE)])
    node.followed.tick()
    await node.settle()
    await node.have_others(ELSEWHERE)
    node.followed._again = [new_id()]  # the round is elsewhere
    node.followed.tick()
    await node.settle()
    assert node.shown == [True, False]


async def test_a_word_that_was_lost_is_made_good_by_a_round_of_all_who_are_followed(node: Node) -> None:
    crowd = [new_id() for _ in range(1200)]
    node.presence.follow(StandIn(new_id()), frozenset(crowd))
    await node.store.put([bo_at(THERE)])
    for _ in range(3):
        node.followed.tick()
        await node.settle()
    assert (node.shown, node.store.asked) == ([True], 1201)


@pytest.mark.parametrize("fault", ["away", "a node is not whole"])
async def test_while_a_lookup_may_overlook_somebody_nobody_elsewhere_is_shown_as_offline(
    node: Node, fault: str
) -> None:
    await node.store.put([bo_at(THERE)])
    node.followed.tick()
    await node.settle()
    if fault == "away":
        node.store.away = True
    else:
        node.store.wipe()
        node.links.note_presence(ELSEWHERE, await node.store.read_token(), registers_rooms=True)
    node.followed.tick()
    await node.settle()
    assert node.shown == [True]


async def test_without_the_store_who_leaves_here_is_shown_as_offline(node: Node) -> None:
    bo = StandIn(BO)
    node.registry.attach(bo)
    node.store.away = True
    node.registry.detach(bo)
    await node.settle()
    assert node.shown == [True, False]


async def test_changes_that_wait_are_bounded(node: Node) -> None:
    for _ in range(6000):
        bo = StandIn(new_id())
        node.registry.attach(bo)
        node.registry.detach(bo)
    assert (node.followed.dropped, len(node.followed._waiting)) == (1000, 5000)
    await node.settle()
    assert len(node.told) == 5000
