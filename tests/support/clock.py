"""A clock that stands still until a test moves it."""

from server.clock import Clock


class ManualClock(Clock):
    """Time of both kinds moves together, only by `advance`; CPU is used only by `work`."""

    def __init__(self, wall_ms: int = 1_767_225_600_000, monotonic: float = 1000.0) -> None:
        self._wall_ms = wall_ms
        self._monotonic = monotonic
        self._cpu_s = 0.0

    def wall_ms(self) -> int:
        return self._wall_ms

    def monotonic(self) -> float:
        return self._monotonic

    def cpu_s(self) -> float:
        return self._cpu_s

    def work(self, seconds: float, *, share: float) -> None:
        """Let so many seconds pass, in which the thread uses so much of a core."""
        self.advance(seconds)
        self._cpu_s += seconds * share

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass."""
        assert seconds >= 0, "time does not go back"
        self._monotonic += seconds
        self._wall_ms += round(seconds * 1000)
