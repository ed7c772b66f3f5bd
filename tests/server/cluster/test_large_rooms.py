"""Rooms of large dialogs: registered before a session's snapshot, told to nobody else, and nothing is missed."""

from __future__ import annotations

import pytest

from tests.server.cluster import large_deployment
from tests.server.cluster.large_deployment import LargeDeployment

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("large_rooms", "publisher"):
        monkeypatch.setattr(f"server.cluster.{module}.LARGE_ABOVE", large_deployment.LARGE_ABOVE)
    monkeypatch.setattr("server.cluster.large_rooms._KEPT_EMPTY_S", 0.0)


@pytest.mark.parametrize("first_seed", range(0, 96, 12))
async def test_no_position_is_past_what_is_due_and_all_of_it_comes(first_seed: int) -> None:
    looks_whole = 0
    for seed in range(first_seed, first_seed + 12):
        deployment = LargeDeployment(seed)
        await deployment.run(600)
        looks_whole += deployment.looks_whole
    assert looks_whole > 0
