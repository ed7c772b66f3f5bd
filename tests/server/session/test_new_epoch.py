"""What becomes of sessions when the database has another history, as after a restore."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from protocol.bodies import TimelineEvent
from protocol.commands import Authenticate, Heartbeat, HighWaterMark, Send, Sync, Typing
from protocol.dialog_types import DialogType
from protocol.events import CaughtUp, HeartbeatReply
from storage.postgres.timelines import PostgresTimelines
from storage.rows import Snapshot
from tests.support.archiving import lose_history
from tests.support.harness import Running, configured, running

pytestmark = pytest.mark.anyio


@pytest.fixture
async def node(database_url: str) -> AsyncIterator[Running]:
    async with running(database_url, configured()) as it:
        yield it


async def test_a_new_epoch_closes_sessions_and_forgets_rosters(node: Running) -> None:
    ann, bo, cy = await node.world.people(3)
    dialog = await node.world.create(DialogType.DIRECT, ann, bo)
    async with node.live(cy) as early:
        position = early.position
    async with node.live(ann) as a, node.live(bo) as b:
        await a.ask(Typing(3, dialog))
        await node.world.pool.execute("UPDATE deployment SET epoch = epoch + 1")  # as after a restore
        async with node.live(cy, position=position) as wire:
            assert not wire.caught_up[0].recovered  # type: ignore[union-attr]
            assert [await each.close_code() for each in (a, b)] == [4003, 4003]
            assert len(node.node.rooms) == 0
            await wire.send(Heartbeat(0))
            assert (await wire.until(HeartbeatReply)).position == ""
            await node.node.horizon.advance()
            await wire.send(Heartbeat(0))
            assert (await wire.until(HeartbeatReply)).position != position


async def test_who_finds_a_new_epoch_gets_nothing_of_the_history_that_was_lost(
    node: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, bo = await node.world.people(2)
    dialog = await node.world.create(DialogType.DIRECT, ann, bo)
    take_snapshot = PostgresTimelines.take_snapshot
    lost: list[int] = []
    async with node.live(ann) as a:

        async def lose_and_take(timelines: PostgresTimelines, principal: bytes, *asked: Any, **limits: Any) -> Snapshot:
            if principal == bo.principal and not lost:
                lost.append((await a.ask(Send(3, dialog, 2, b"lost"))).seq)
                await lose_history(node.world, dialog, lost[0] - 1)
            return await take_snapshot(timelines, principal, *asked, **limits)

        monkeypatch.setattr(PostgresTimelines, "take_snapshot", lose_and_take)
        async with node.live(bo) as wire:
            assert [each.seq for each in wire.caught_up if isinstance(each, TimelineEvent)] == [1]
    assert lost == [2]


async def test_receipts_of_another_epoch_are_not_taken(node: Running) -> None:
    ann, bo = await node.world.people(2)
    dialog = await node.world.create(DialogType.DIRECT, ann, bo)
    old, own = [node.node.horizon._positions.issue(epoch, 1, bo.principal) for epoch in (99, node.node.horizon.epoch)]
    for position, taken in ((old, 0), (own, 1), ("", 1)):
        async with node.connected() as wire:
            await wire.ask(Authenticate(1, node.token(bo)))
            await wire.send(Sync(2, position, [HighWaterMark(dialog, 1, 1)]))
            await wire.until(CaughtUp)
        assert len(node.node.receipts) == taken
        node.node.receipts._gathered.clear()
