"""What a run shows while it runs."""

import io

from loadtest.progress import RunProgress, describe
from tests.loadtest.results import samples


class Terminal(io.StringIO):
    """A stream that says that people look at it."""

    def isatty(self) -> bool:
        return True


def test_where_no_terminal_is_each_phase_is_one_line() -> None:
    stream = io.StringIO()
    progress = RunProgress(stream)
    progress.phase("people connect", None)
    progress.phase("measuring", 10.0)
    for sample in samples():
        progress.show(sample)
    progress.close()
    assert stream.getvalue() == "people connect\nmeasuring (10 s)\n"


def test_a_terminal_shows_the_phase_the_time_left_and_the_rates() -> None:
    now_s, stream = [100.0], Terminal()
    progress = RunProgress(stream, clock=lambda: now_s[0])
    progress.phase("measuring", 10.0)
    before, now, *_ = samples()
    progress.show(before)
    now_s[0] = 103.0
    progress.show(now)
    *_, last = stream.getvalue().split("phase")
    progress.close()
    assert "measuring, 7 s left" in last
    assert "10,000 each second" in last


def test_rates_are_those_since_the_sample_before() -> None:
    _, before, now, *_ = samples()
    assert dict(describe(before, now)) == {
        "connected": "1,000",
        "acked": "100 each second",
        "delivered": "10,000 each second",
        "CPU": "tchat 50%, PostgreSQL 20%, busiest worker 40% of a core",
        "latency": "half within 1.2 ms, 99 % within 6.0 ms",
        "memory": "tchat 62 MiB, PostgreSQL 90 MiB",
    }


def test_the_first_sample_has_no_rates() -> None:
    assert dict(describe(None, samples()[0])).keys() == {"connected", "latency", "memory"}
    assert "acked" not in dict(describe(samples()[0], samples()[0]))
