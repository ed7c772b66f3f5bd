"""A clock that stands still until a test moves it."""

from server.clock import Clock


class ManualClock(Clock):
    """Both kinds of time move together, only by `advance`."""

    def __init__(self, wall_ms: int = 1_767_225_600_000, monotonic: float = 1000.0) -> None:
        self._wall_ms = wall_ms
        self._monotonic = monotonic

    def wall_ms(self) -> int:
        return self._wall_ms

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass."""
        assert seconds >= 0, "time does not go back"
        self._monotonic += seconds
        self._wall_ms += round(seconds * 1000)
