"""A short run of payments that are announced while everything fails.

That the run sees a broken rule depends on what happens to meet it: `--break` tries that with runs that are long enough.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.adversity.announce import announce
from tests.adversity.announce_reading import COUNTS

pytestmark = pytest.mark.anyio


async def test_what_is_announced_is_complete_in_order_and_for_nobody_else(tmp_path: Path) -> None:
    summary, said = await announce(50, relays=2, kills=4, seed=5, folder=tmp_path)
    assert said == []
    assert {count: summary[count] for count in COUNTS} == dict.fromkeys(COUNTS, 0)
    assert (summary["at_rest"], summary["exit_codes"]) == (True, [0, 0])
    assert summary["events_read"] > 4 * summary["payments"]
    blows = ("pause_a_relay", "lose_answers", "restart_the_chat", "renew_the_key", "have_somebody_leave")
    assert (summary["kill_a_relay"], *(summary[blow] for blow in blows), summary["delete_a_dialog"]) == (4, *[1] * 6)
    assert summary["measured"] > 0
