"""How steady the machine is, with a clock that the tests own."""

import pytest

from loadtest.bench.machine_noise import MachineNoise, join_noise, measure_noise

MS = 1_000_000


class SteppingClock:
    """Each look at it takes `step_ns`, but for those that take longer, by their number."""

    def __init__(self, step_ns: int, longer_ns: dict[int, int] | None = None) -> None:
        self.now_ns = 0
        self.looks = 0
        self._step_ns = step_ns
        self._longer_ns = longer_ns or {}

    def __call__(self) -> int:
        self.looks += 1
        self.now_ns += self._longer_ns.get(self.looks, self._step_ns)
        return self.now_ns


def test_a_steady_machine_has_one_speed_and_no_stops() -> None:
    noise = measure_noise(0.1, SteppingClock(100))
    assert (noise.step_ns_least, noise.step_ns_most) == (100, 100)
    assert (noise.stopped_share, noise.stop_ms_max) == (0, 0)


def test_stops_are_told_apart_from_the_speed() -> None:
    noise = measure_noise(0.1, SteppingClock(100, {5_000: 8 * MS, 9_000: 2 * MS}))
    assert noise.step_ns_least == pytest.approx(noise.step_ns_most, rel=0.01)
    assert noise.stopped_share == pytest.approx(0.1, rel=0.01)
    assert noise.stop_ms_max == 8


def test_a_stop_that_is_longer_than_the_measurement_is_a_part_of_it() -> None:
    noise = measure_noise(0.1, SteppingClock(100, {2: 5_000 * MS, 5_000: 5_000 * MS}))
    assert noise.stop_ms_max == 5_000
    assert 0.9 < noise.stopped_share < 1


def test_a_machine_that_slows_down_has_two_speeds() -> None:
    slow = dict.fromkeys(range(30_000, 2_000_000), 200)
    noise = measure_noise(0.05, SteppingClock(100, slow))
    assert (noise.step_ns_least, noise.step_ns_most) == (100, 200)


def test_several_measurements_keep_the_extremes_and_the_mean_of_stops() -> None:
    joined = join_noise([MachineNoise(50, 80, 0.01, 3), MachineNoise(60, 90, 0.03, 8)])
    assert joined == MachineNoise(50, 90, 0.02, 8)
    assert str(joined) == (
        "the machine counted a step in 50 to 90 ns, "
        "and did not run the counting process for 2.0% of the time, 8.0 ms at most"
    )
