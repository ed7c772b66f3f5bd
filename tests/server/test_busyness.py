"""How busy a node is."""

from __future__ import annotations

from server.busyness import Busyness
from tests.support.clock import ManualClock


def look_after(*shares: float) -> float:
    clock = ManualClock()
    busyness = Busyness(clock)
    for share in shares:
        clock.work(1.0, share=share)
        level = busyness.look()
    return level


def test_a_node_that_rests_is_not_busy() -> None:
    assert look_after(0.0) == look_after(0.4) == 0.0


def test_it_is_the_busier_the_more_of_a_core_it_uses() -> None:
    assert 0.0 < look_after(0.5) < look_after(0.7) < look_after(0.8) == look_after(1.0) == 1.0


def test_the_last_moments_count() -> None:
    assert look_after(1.0, 0.1) == 0.0
    assert look_after(0.1, 1.0) == 1.0


def test_it_is_not_measured_over_less_than_a_moment() -> None:
    clock = ManualClock()
    busyness = Busyness(clock)
    clock.work(0.01, share=1.0)
    assert busyness.look() == 0.0
