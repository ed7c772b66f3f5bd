"""A small run of the measurement of sealed groups: an addition costs one slice, a removal all of them."""

from pathlib import Path

import pytest

from tests.adversity.sealed_group import measure_group

pytestmark = pytest.mark.anyio


async def test_an_addition_costs_one_slice_and_a_removal_all_of_them(database_url: str, tmp_path: Path) -> None:
    said = await measure_group(database_url, tmp_path, 10, online=9, rounds=1, quiet_s=0.2)
    first, later, added, removed = (
        said[each]["bytes"] for each in ("first", "later", "after_addition", "after_removal")
    )
    assert later < added < first / 4
    assert later < added < removed / 4
    assert said["unconfirmed"] == 0
    assert said["head_locked_ms"] >= 0
    assert said["direct_per_cpu_s"] > 0
