"""A short run of payments that are announced while everything fails; and that the run sees what it looks for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.adversity.announce import announce
from tests.adversity.announce_breaks import BREAKS
from tests.adversity.announce_reading import COUNTS

pytestmark = pytest.mark.anyio

ONE_OF_EACH_COUNT = {broken.count: name for name, broken in BREAKS.items()}


async def test_what_is_announced_is_complete_in_order_and_for_nobody_else(tmp_path: Path) -> None:
    summary, said = await announce(50, relays=2, kills=4, seed=5, folder=tmp_path)
    assert said == []
    assert {count: summary[count] for count in COUNTS} == dict.fromkeys(COUNTS, 0)
    assert (summary["at_rest"], summary["exit_codes"]) == (True, [0, 0])
    assert summary["events_read"] > 4 * summary["payments"]
    blows = ("pause_a_relay", "lose_answers", "restart_the_chat", "renew_the_key", "have_somebody_leave")
    assert (summary["kill_a_relay"], *(summary[blow] for blow in blows), summary["delete_a_dialog"]) == (4, *[1] * 6)
    assert summary["measured"] > 0


@pytest.mark.parametrize("count", ["leaked", "misordered"])
async def test_a_broken_rule_is_seen(tmp_path: Path, count: str) -> None:
    """`missing` and `doubled` need kills and half a minute each: `--break` has them, and the canaries of the relay."""
    name = ONE_OF_EACH_COUNT[count]
    summary, _ = await announce(50, relays=2, kills=0, seed=5, broken=name, folder=tmp_path)
    assert summary[count] > 0
