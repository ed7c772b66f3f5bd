"""Who gets an event, also members who join or leave at that moment."""

from __future__ import annotations

import asyncio

import pytest

from protocol.bodies import MemberRemoved, TimelineEvent
from protocol.commands import Add, Create, Remove, Send
from protocol.dialog_types import DialogType, Mode
from protocol.events import DialogState
from storage.rows import DialogRoster
from tests.support.harness import Running

pytestmark = pytest.mark.anyio


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
