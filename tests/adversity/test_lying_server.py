"""Some lies of a server, told to real clients; and that the tool sees what it looks for. All lies: the command."""

from __future__ import annotations

from typing import Any

import pytest

from tests.adversity.lying_server import is_held, run

pytestmark = pytest.mark.anyio

NAMES = ["ghost_member", "swapped_identity", "split_view", "reshared_session", "injected_backup", "honest"]


async def test_lies_are_noticed_and_the_truth_raises_no_alarm(database_url: str) -> None:
    found = await run(database_url, NAMES, seed=7)
    assert [each["lie"] for each in found if is_held(each)] == NAMES
    shown = [each["shown_as"] for each in found[:-1]]
    assert shown == ["unknown_device", "held", "views_differ", "wrong_owner", "refused"]


@pytest.mark.parametrize(
    "found",
    [
        {"lie": "ghost_member", "detected_by": "", "leaked": 0},
        {"lie": "ghost_member", "detected_by": "ChangeNotBelieved", "leaked": 1},
        {"lie": "honest", "false_alarms": 1},
    ],
)
def test_a_lie_that_nobody_notices_or_that_gets_keys_and_a_false_alarm_fail_the_run(found: dict[str, Any]) -> None:
    assert not is_held(found)
