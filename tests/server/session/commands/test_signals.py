"""Signals: typing up to the bound on members, and receipts that the server has no room for."""

from __future__ import annotations

import pytest

from protocol.commands import HighWaterMark, Receipt, Typing
from protocol.dialog_types import DialogType
from protocol.events import TypingChanged
from protocol.limits import STATE_MEMBERS_MAX
from protocol.replies import Done
from server.delivery import receipts
from tests.support.harness import Running

pytestmark = pytest.mark.anyio


async def test_typing_is_not_delivered_above_the_bound_on_members(server: Running) -> None:
    ann, bo, *others = await server.world.people(STATE_MEMBERS_MAX + 1)
    too_large = await server.world.create(DialogType.GROUP, ann, bo, *others)
    largest = await server.world.create(DialogType.GROUP, ann, bo, *others[1:])
    async with server.live(ann) as a, server.live(bo) as b:
        assert isinstance(await b.ask(Typing(3, too_large)), Done)
        assert isinstance(await b.ask(Typing(4, largest)), Done)
        assert await a.until(TypingChanged) == TypingChanged(largest, bo.principal, active=True)


async def test_a_receipt_is_unavailable_when_too_many_are_gathered(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, bo, cy = await server.world.people(3)
    first, second = [await server.world.create(DialogType.DIRECT, ann, other) for other in (bo, cy)]
    async with server.live(ann) as wire:
        monkeypatch.setattr(receipts, "_GATHERED_MAX", 1)
        monkeypatch.setattr(receipts.Receipts, "flush", _keep_gathered)
        assert isinstance(await wire.ask(Receipt(3, HighWaterMark(first, 1, 1))), Done)
        assert (await wire.ask(Receipt(4, HighWaterMark(second, 1, 1)))).code == "unavailable"
        assert isinstance(await wire.ask(Receipt(5, HighWaterMark(first, 2, 2))), Done)


async def _keep_gathered(_receipts: receipts.Receipts) -> None:
    """In place of a flush, which would make room during the test."""
