"""The timing wheel: due no earlier, and at most a tick later."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from server.session.wheel import Slot, TimingWheel


class Alarm:
    """Something with a time."""

    def __init__(self) -> None:
        self.slot: Slot | None = None


def test_what_is_due_is_returned_once() -> None:
    wheel, alarm = TimingWheel[Alarm](0.0), Alarm()
    wheel.schedule(alarm, 1.5)
    assert (wheel.advance(1.4), list(wheel), len(wheel)) == ([], [alarm], 1)
    assert wheel.advance(2.0) == [alarm]
    assert wheel.advance(9.0) == []
    assert len(wheel) == 0


def test_scheduling_again_moves() -> None:
    wheel, alarm = TimingWheel[Alarm](0.0), Alarm()
    for at in (2.0, 2.0, 5.0):
        wheel.schedule(alarm, at)
    assert wheel.advance(4.0) == []
    assert wheel.advance(5.0) == [alarm]


def test_removed_is_never_due() -> None:
    wheel, alarm = TimingWheel[Alarm](0.0), Alarm()
    wheel.schedule(alarm, 2.0)
    wheel.remove(alarm)
    wheel.remove(alarm)
    assert wheel.advance(10.0) == []


def test_a_far_time_waits_for_its_turn() -> None:
    wheel, far = TimingWheel[Alarm](0.0), Alarm()
    wheel.schedule(far, 2000.0)
    assert not any(wheel.advance(float(second)) for second in range(1, 2000))
    assert wheel.advance(2000.0) == [far]


def test_a_long_pause_of_the_loop_skips_nothing() -> None:
    wheel, soon, far = TimingWheel[Alarm](0.0), Alarm(), Alarm()
    wheel.schedule(far, 50.0)
    wheel.schedule(soon, 3.0)
    assert wheel.advance(1000.0) == [soon, far]


def test_what_was_due_can_be_scheduled_again_and_old_turns_leave_nothing() -> None:
    wheel, alarm = TimingWheel[Alarm](0.0), Alarm()
    for second in range(1, 100):
        wheel.schedule(alarm, float(second))
        assert wheel.advance(float(second)) == [alarm]
    assert wheel._slots == {}


@given(st.lists(st.tuples(st.floats(0, 40), st.floats(0, 40)), max_size=40))
def test_nothing_is_early_and_nothing_is_more_than_a_tick_late(scheduled: list[tuple[float, float]]) -> None:
    wheel = TimingWheel[Alarm](0.0)
    now = 0.0
    due_at: dict[Alarm, float] = {}
    for at, step in scheduled:
        alarm = Alarm()
        wheel.schedule(alarm, at)
        due_at[alarm] = at
        now += step / 10
        for ripe in wheel.advance(now):
            assert due_at.pop(ripe) <= now
    for second in range(int(now), int(now) + 60):
        for ripe in wheel.advance(float(second)):
            assert due_at[ripe] <= second
            assert due_at.pop(ripe) >= second - 1 or second <= now + 1
    assert not due_at
