"""The cost of every operation at a thousand and at ten thousand of everything, in blocks."""

from __future__ import annotations

import pytest

from tests.adversity.growth_stage import Stage, compare

pytestmark = pytest.mark.anyio


async def test_no_operation_costs_more_in_a_larger_dialog(database_url: str) -> None:
    stage = await Stage.open(database_url)
    try:
        for dimension in ("rows", "reactions", "members", "dialogs"):
            for size in (1_000, 10_000):
                await stage.add(dimension, size)
        await stage.measure(3)
    finally:
        stage.close()
    lines = list(compare(stage.subjects))
    assert [line for line in lines if not line["held"]] == []
    assert len(lines) == 80
