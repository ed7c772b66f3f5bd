"""The node's periodic work, driven tick by tick."""

from __future__ import annotations

import pytest

from server.node import composition
from tests.support.harness import Running

pytestmark = pytest.mark.anyio


async def test_stale_lists_of_subscribers_are_dropped_every_so_many_ticks(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    dropped: list[None] = []
    dropped_after = []
    monkeypatch.setattr(composition, "_TICKS_TO_DROP_STALE", 3)
    monkeypatch.setattr(server.node, "_ticks", 0)
    monkeypatch.setattr(server.node.rooms, "drop_stale_subscribers", lambda: dropped.append(None))
    for _ in range(7):
        server.node.tick()
        dropped_after.append(len(dropped))
    assert dropped_after == [0, 0, 1, 1, 1, 2, 2]
