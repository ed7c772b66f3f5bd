"""Catch-up on a socket that takes little: what is read waits for what was written."""

from __future__ import annotations

import asyncio
import time

import msgspec
import pytest

from protocol.bodies import TimelineEventRaw
from protocol.dialog_types import DialogType
from protocol.events import DialogState
from server.config.settings import SessionSettings
from server.delivery.flush_turn import FlushTurn
from server.delivery.outbox import Outbox
from server.session.catch_up import CatchUp, Plan
from storage.postgres.dialog_states import PAGE_DIALOGS
from tests.support.filling import add_dialogs, add_members, add_messages
from tests.support.turns import until
from tests.support.world import Person, World

pytestmark = pytest.mark.anyio

PAGE_EVENTS = 50


class SlowOutbox(Outbox):
    """The outbox of a socket that is full after each write, until the test takes what was written."""

    __slots__ = ("paused", "pushed")

    def __init__(self) -> None:
        self.paused = False
        self.pushed: list[msgspec.Struct] = []
        turn = FlushTurn(asyncio.get_running_loop().call_soon)
        super().__init__(self, self, turn, SessionSettings(), time.monotonic, text=False)

    def push(self, message: msgspec.Struct) -> None:
        self.pushed.append(message)
        super().push(message)

    def write(self, _data: bytes) -> None:
        self.paused = True

    def fell_behind(self) -> None:
        raise AssertionError("nothing is live here")

    def drained(self) -> None:
        """No mailbox waits."""

    def owe_position(self) -> None:
        """No position is sent."""

    def take(self) -> list[msgspec.Struct]:
        """Take what the catch-up has pushed; the socket takes one more write."""
        taken, self.pushed = self.pushed, []
        self.paused = False
        self.writable()
        return taken


async def pushed_between_drains(world: World, who: Person, window: int) -> list[list[msgspec.Struct]]:
    """What a whole catch-up pushes each time, before it waits for the socket."""
    snapshot = await world.timelines.take_snapshot(who.principal, who.sign_in, None, window=window, events_max=9)
    outbox = SlowOutbox()
    catch_up = CatchUp(world.timelines, page_events=PAGE_EVENTS)
    running = asyncio.ensure_future(catch_up.run(outbox, who.principal, Plan(snapshot)))
    parts = []
    while not running.done():
        await until(lambda: running.done() or (outbox._drained is not None and not outbox._drained.done()))
        parts.append(outbox.take())
    assert running.result()
    return parts


async def test_a_page_of_events_is_read_when_the_one_before_is_written(world: World) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    await add_messages(world.pool, dialog, bo, 500)
    parts = await pushed_between_drains(world, ann, 1000)
    seqs = [[event.seq for event in part if isinstance(event, TimelineEventRaw)] for part in parts]
    assert max(len(part) for part in seqs) == PAGE_EVENTS
    assert [seq for part in seqs for seq in part] == list(range(1, 502))


async def test_states_are_read_a_few_at_a_time_and_a_snapshot_page_by_page(world: World) -> None:
    ann = await world.person()
    await add_dialogs(world.pool, ann, 2 * PAGE_DIALOGS + 1)
    await world.pool.execute("UPDATE heads SET seq = 0, messages = 0")
    parts = await pushed_between_drains(world, ann, 10)
    assert max(len(part) for part in parts) <= 50
    states = {state.dialog for part in parts for state in part if isinstance(state, DialogState)}
    assert len(states) == 2 * PAGE_DIALOGS + 1


async def test_states_with_many_members_come_fewer_at_a_time(world: World) -> None:
    ann, bo, cy = await world.people(3)
    for _ in range(25):
        await add_members(world.pool, await world.create(DialogType.GROUP, ann, bo, cy), 90)
    parts = await pushed_between_drains(world, ann, 10)
    listed = [[len(state.members) for state in part if isinstance(state, DialogState)] for part in parts]
    assert [members for part in listed for members in part] == [93] * 25
    assert max(sum(part) for part in listed) <= 1000
