"""The timing wheel: due no earlier, and at most a tick later."""

from hypothesis import given
from hypothesis import strategies as st

from server.session.wheel import TimingWheel


def test_what_is_due_is_returned_once() -> None:
    wheel: TimingWheel[str] = TimingWheel(0.0)
    wheel.schedule("a", 1.5)
    assert wheel.advance(1.4) == []
    assert wheel.advance(2.0) == ["a"]
    assert wheel.advance(9.0) == []
    assert len(wheel) == 0


def test_scheduling_again_moves() -> None:
    wheel: TimingWheel[str] = TimingWheel(0.0)
    wheel.schedule("a", 2.0)
    wheel.schedule("a", 5.0)
    assert wheel.advance(4.0) == []
    assert wheel.advance(5.0) == ["a"]


def test_removed_is_never_due() -> None:
    wheel: TimingWheel[str] = TimingWheel(0.0)
    wheel.schedule("a", 2.0)
    wheel.remove("a")
    wheel.remove("a")
    assert wheel.advance(10.0) == []


def test_a_time_beyond_one_turn_of_the_wheel_waits_for_its_turn() -> None:
    wheel: TimingWheel[str] = TimingWheel(0.0, slots=8)
    wheel.schedule("far", 20.0)
    assert [wheel.advance(float(second)) for second in range(1, 20)] == [[]] * 19
    assert wheel.advance(20.0) == ["far"]


def test_a_long_pause_of_the_loop_skips_nothing() -> None:
    wheel: TimingWheel[str] = TimingWheel(0.0, slots=8)
    wheel.schedule("soon", 3.0)
    wheel.schedule("far", 50.0)
    assert sorted(wheel.advance(1000.0)) == ["far", "soon"]


@given(st.lists(st.tuples(st.floats(0, 40), st.floats(0, 40)), max_size=40))
def test_nothing_is_early_and_nothing_is_more_than_a_tick_late(scheduled: list[tuple[float, float]]) -> None:
    wheel: TimingWheel[int] = TimingWheel(0.0, slots=8)
    now = 0.0
    due_at: dict[int, float] = {}
    for item, (at, step) in enumerate(scheduled):
        wheel.schedule(item, at)
        due_at[item] = at
        now += step / 10
        for ripe in wheel.advance(now):
            assert due_at.pop(ripe) <= now
    for second in range(int(now), int(now) + 60):
        for ripe in wheel.advance(float(second)):
            assert due_at[ripe] <= second
            assert due_at.pop(ripe) >= second - 1 or second <= now + 1
    assert not due_at
