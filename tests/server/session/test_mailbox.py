"""The mailbox: a session has one of its own only while something waits."""

from __future__ import annotations

from protocol.commands import Heartbeat
from server.session.mailbox import NOTHING_WAITS


def test_what_is_put_where_nothing_waits_is_in_a_mailbox_of_its_own() -> None:
    one, other = NOTHING_WAITS.put(Heartbeat(1), 10), NOTHING_WAITS.put(Heartbeat(2), 20)
    assert one.put(Heartbeat(3), 30) is one
    assert ([each.id for each, _ in one.commands], one.size) == ([1, 3], 40)
    assert ([each.id for each, _ in other.commands], other.size) == ([2], 20)
    assert (NOTHING_WAITS.commands, NOTHING_WAITS.size, NOTHING_WAITS.reading) == ([], 0, True)
