"""A short run of payments that are announced while everything fails; and that the run sees what it looks for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.adversity.announce import announce
from tests.adversity.announce_breaks import BREAKS
from tests.adversity.announce_reading import COUNTS

pytestmark = pytest.mark.anyio

ONE_OF_EACH_COUNT = {broken.count: name for name, broken in BREAKS.items()}
WITHOUT_BLOWS = {"leaked", "misordered"}


async def test_what_is_announced_is_complete_in_order_and_for_nobody_else(tmp_path: Path) -> None:
    summary, said = await announce(80, relays=2, kills=4, seed=5, folder=tmp_path)
    assert said == []
    assert {count: summary[count] for count in COUNTS} == dict.fromkeys(COUNTS, 0)
    assert (summary["at_rest"], summary["exit_codes"]) == (True, [0, 0])
    assert summary["events_read"] > 4 * summary["payments"]
    blows = ("pause_a_relay", "lose_answers", "restart_the_chat", "renew_the_key", "have_somebody_leave")
    assert (summary["kill_a_relay"], *(summary[blow] for blow in blows), summary["delete_a_dialog"]) == (4, *[1] * 6)
    assert summary["measured"] > 0


@pytest.mark.parametrize("count", COUNTS)
async def test_a_broken_rule_is_seen(tmp_path: Path, count: str) -> None:
    """One rule for each count; `--break` has the others."""
    payments, kills = (50, 0) if count in WITHOUT_BLOWS else (100, 6)
    name = ONE_OF_EACH_COUNT[count]
    summary, _ = await announce(payments, relays=2, kills=kills, seed=5, broken=name, folder=tmp_path)
    assert summary[count] > 0
