"""What is cheap to ask and dear to answer costs more of a session's rate."""

import pytest

from protocol.commands import (
    Add,
    AnyCommand,
    Create,
    Heartbeat,
    HighWaterMark,
    History,
    PresenceSubscribe,
    Receipt,
    Roster,
)
from protocol.dialog_types import DialogType
from protocol.ids import NIL
from server.session.costs import cost

MANY = [NIL] * 500


@pytest.mark.parametrize(
    "command", [Heartbeat(1), Receipt(1, HighWaterMark(NIL)), History(1, NIL, limit=1), Roster(1, NIL, limit=9)]
)
def test_what_touches_little_costs_one(command: AnyCommand) -> None:
    assert cost(command) == 1


@pytest.mark.parametrize(
    ("large", "small"),
    [
        (History(1, NIL, limit=200), History(1, NIL, limit=10)),
        (Roster(1, NIL, limit=500), Roster(1, NIL, limit=10)),
        (PresenceSubscribe(1, MANY), PresenceSubscribe(1, MANY[:1])),
        (Create(1, 1, DialogType.GROUP, MANY), Create(1, 1, DialogType.GROUP, MANY[:2])),
        (Add(1, NIL, 1, MANY), Add(1, NIL, 1, MANY[:1])),
    ],
)
def test_more_costs_more(large: AnyCommand, small: AnyCommand) -> None:
    assert cost(large) >= 5 * cost(small)
