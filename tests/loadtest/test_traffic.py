"""The schedule of an open loop."""

from itertools import islice, takewhile

import pytest

from loadtest.traffic import schedule


def test_without_a_ramp_messages_are_due_evenly() -> None:
    assert list(islice(schedule(10.0, 0.0), 4)) == pytest.approx([0.0, 0.1, 0.2, 0.3])


def test_a_ramp_reaches_the_rate_evenly() -> None:
    due = list(takewhile(lambda at: at < 3.0, schedule(100.0, 2.0)))
    assert due == sorted(due)
    per_half_second = [sum(at <= one < at + 0.5 for one in due) for at in (0.0, 0.5, 1.0, 1.5, 2.0, 2.5)]
    assert per_half_second == pytest.approx([6, 19, 31, 44, 50, 50], abs=1.5)


def test_after_a_ramp_messages_are_due_at_the_rate() -> None:
    due = [at for at in takewhile(lambda at: at < 4.0, schedule(100.0, 2.0)) if at >= 2.0]
    assert len(due) == 200
