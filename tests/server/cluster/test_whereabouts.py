"""Whereabouts: a node knows when others may not find its connections, before a snapshot is taken."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest

from protocol.ids import new_id
from server.cluster import whereabouts as whereabouts_module
from server.cluster.whereabouts import Whereabouts
from storage.bus import KEPT_S, ConnectionKey
from storage.local.network import LocalPresence
from tests.support.clock import ManualClock
from tests.support.stamps import drawing

pytestmark = pytest.mark.anyio


class Store(LocalPresence):
    """A store in which a test can do something between the writing of connections and the answer."""

    def __init__(self) -> None:
        super().__init__()
        self.puts = 0
        self.meanwhile = asyncio.sleep

    async def put(self, keys: Sequence[ConnectionKey]) -> str:
        self.puts += len(keys)
        token = await super().put(keys)
        await self.meanwhile(0)
        return token


class Place:
    """The whereabouts of incarnation 1."""

    def __init__(self) -> None:
        self.store = Store()
        self.clock = ManualClock()
        self.lost = 0
        self.whereabouts = Whereabouts(self.store, self.clock, self._note_lost, draw_stamp=drawing(), incarnation=1)

    def _note_lost(self) -> None:
        self.lost += 1

    async def nodes_of(self, principal: bytes) -> list[int]:
        return (await self.store.locate([principal])).nodes[0]


@pytest.fixture
async def place() -> Place:
    """A node whose presence is whole."""
    made = Place()
    await made.whereabouts.check()
    assert made.whereabouts.token
    made.lost = 0
    return made


async def test_who_has_arrived_is_found_until_they_leave(place: Place) -> None:
    ann = new_id()
    await place.whereabouts.arrive("phone", ann)
    await place.whereabouts.arrive("tablet", ann)
    place.whereabouts.leave("phone")
    assert await place.nodes_of(ann) == [1]
    place.whereabouts.leave("tablet")
    assert await place.nodes_of(ann) == []
    assert (place.lost, len(place.whereabouts)) == (0, 0)


async def test_who_leaves_while_the_store_is_away_is_removed_when_it_is_back(place: Place) -> None:
    people = [new_id() for _ in range(1200)]
    for who in people:
        await place.whereabouts.arrive(who, who)
    place.store.away = True
    for who in people:
        place.whereabouts.leave(who)
    await place.whereabouts.check()
    place.store.away = False
    await place.whereabouts.check()
    assert (await place.store.locate(people)).nodes == [[]] * len(people)
    assert len(place.whereabouts._gone) == 0


async def test_those_who_wait_to_be_removed_are_bounded(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whereabouts_module, "_GONE_MAX", 10)
    place.store.away = True
    for number in range(50):
        await place.whereabouts.arrive(number, new_id())
        place.whereabouts.leave(number)
    assert len(place.whereabouts._gone) == 10


async def test_an_arrival_that_is_not_confirmed_is_lost_before_it_returns(place: Place) -> None:
    place.store.away = True
    await place.whereabouts.arrive("phone", new_id())
    assert (place.lost, place.whereabouts.token) == (1, "")


async def test_a_wipe_is_noticed_by_the_next_arrival(place: Place) -> None:
    place.store.wipe()
    await place.whereabouts.arrive("phone", new_id())
    assert (place.lost, place.whereabouts.token) == (1, "")


async def test_after_a_wipe_everybody_is_written_again(place: Place) -> None:
    people = [new_id() for _ in range(1200)]
    for who in people:
        await place.whereabouts.arrive(who, who)
    place.store.wipe()
    await place.whereabouts.check()
    assert place.lost == 1
    assert place.whereabouts.token == await place.store.read_token()
    assert (await place.store.locate(people)).nodes == [[1]] * len(people)


async def test_a_wipe_while_everybody_is_written_leaves_it_to_the_next_time(place: Place) -> None:
    await place.whereabouts.arrive("phone", new_id())
    place.store.wipe()

    async def wipe(_s: float) -> None:
        place.store.wipe()

    place.store.meanwhile = wipe  # type: ignore[assignment]
    await place.whereabouts.check()  # what it put is gone, though the answer had the token
    place.store.meanwhile = asyncio.sleep
    await place.whereabouts.check()
    assert place.whereabouts.token == await place.store.read_token()
    assert place.lost == 2


async def test_who_arrives_while_everybody_is_written_keeps_it_whole(place: Place) -> None:
    await place.whereabouts.arrive("phone", new_id())
    place.store.wipe()
    late = new_id()
    check = asyncio.ensure_future(place.whereabouts.check())
    await asyncio.sleep(0)
    await place.whereabouts.arrive("tablet", late)
    await check
    assert place.whereabouts.token == await place.store.read_token()
    assert await place.nodes_of(late) == [1]


async def test_who_leaves_while_their_arrival_is_written_is_not_there(place: Place) -> None:
    ann = new_id()
    arrival = asyncio.ensure_future(place.whereabouts.arrive("phone", ann))
    await asyncio.sleep(0)
    place.whereabouts.leave("phone")
    await arrival
    assert await place.nodes_of(ann) == []


async def test_who_leaves_while_their_stamp_is_drawn_never_arrives(place: Place) -> None:
    gate = asyncio.Event()

    async def draw() -> int:
        await gate.wait()
        return 1

    ann, whereabouts = new_id(), Whereabouts(place.store, place.clock, lambda: None, draw_stamp=draw, incarnation=1)
    arrival = asyncio.ensure_future(whereabouts.arrive("phone", ann))
    await asyncio.sleep(0)
    whereabouts.leave("phone")
    gate.set()
    await arrival
    assert (len(whereabouts), await place.nodes_of(ann)) == (0, [])


async def test_who_arrives_again_is_there_once(place: Place) -> None:
    ann = new_id()
    await place.whereabouts.arrive("phone", ann)
    await place.whereabouts.arrive("phone", ann)
    place.whereabouts.leave("phone")
    assert await place.nodes_of(ann) == []


async def test_everybody_is_written_again_long_before_the_store_may_forget(place: Place) -> None:
    await place.whereabouts.arrive("phone", new_id())
    puts = place.store.puts
    place.clock.advance(KEPT_S / 3)
    await place.whereabouts.check()
    assert (place.store.puts, place.lost) == (puts + 1, 0)


async def test_a_token_says_that_all_who_have_arrived_are_there(place: Place) -> None:
    rng = random.Random(8)
    here: dict[int, bytes] = {}
    for number in range(400):
        match rng.choice(["arrive", "arrive", "leave", "wipe", "away", "back", "check", "check"]):
            case "arrive":
                here[number] = new_id()
                await place.whereabouts.arrive(number, here[number])
            case "leave" if here:
                gone = rng.choice(list(here))
                place.whereabouts.leave(gone)
                del here[gone]
            case "wipe":
                place.store.wipe()
            case "away":
                place.store.away = True
            case "back":
                place.store.away = False
            case _:
                await place.whereabouts.check()
        located = await place.store.locate(list(here.values()))
        if located.token and located.token == place.whereabouts.token:
            assert located.nodes == [[1]] * len(here)


async def test_rooms_are_written_again_when_the_store_was_wiped(place: Place) -> None:
    dialog = new_id()
    await place.whereabouts.register([dialog])
    await place.whereabouts.register([dialog])
    assert (await place.nodes_of(dialog), place.store.puts, place.lost) == ([1], 1, 0)
    place.store.wipe()
    await place.whereabouts.check()
    assert (await place.nodes_of(dialog), place.whereabouts.token) == ([1], await place.store.read_token())
    place.whereabouts.unregister([dialog])
    assert await place.nodes_of(dialog) == []


async def test_a_room_that_is_not_confirmed_is_lost_before_it_counts(place: Place) -> None:
    place.store.away = True
    await place.whereabouts.register([new_id()])
    assert (place.lost, place.whereabouts.token) == (1, "")


async def test_a_room_that_is_unregistered_while_it_is_written_is_removed(place: Place) -> None:
    dialog = new_id()

    async def unregister(_s: float) -> None:
        place.whereabouts.unregister([dialog])

    place.store.meanwhile = unregister  # type: ignore[assignment]
    await place.whereabouts.register([dialog])
    assert await place.nodes_of(dialog) == []
