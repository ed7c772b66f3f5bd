"""The faults of one run, drawn from its dice: how calls of the database fare, and how long bytes take."""

from __future__ import annotations

import random
from dataclasses import dataclass

from storage.unavailable import NothingWrittenError, StorageTimeoutError, StorageUnavailableError
from tests.simulation.database import Conditions, Fate

_WRITES = frozenset({"flush", "change", "receipts"})
_LONG_S = 25.0
"""Longer than every time-out of the product."""
_CALM = (Fate(), Fate(arrive_s=0.001), Fate(reply_s=0.001), Fate(commit_s=0.001))


@dataclass(slots=True)
class Climate:
    """How often what happens, drawn once for a run: the share of calls, or of chunks of bytes."""

    fails: float
    slow: float
    very_slow: float
    network_s: float

    @classmethod
    def draw(cls, dice: random.Random) -> Climate:
        """Some runs have few faults, some one sort of them, some all."""
        return cls(
            fails=dice.choice((0.0, 0.02, 0.1, 0.3)),
            slow=dice.choice((0.0, 0.1, 0.5)),
            very_slow=dice.choice((0.0, 0.0, 0.02, 0.05)),
            network_s=dice.choice((0.001, 0.05, 0.5)),
        )


class Weather(Conditions):
    """Draws the fate of every call. `calm` ends all faults; while `blind`, no roster can be read."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.climate = Climate.draw(dice)
        self.calm = True
        self.blind = False

    def fate_of(self, call: str) -> Fate:
        draw = self.dice.random
        if self.calm:
            return _CALM[int(draw() * len(_CALM))]
        if self.blind and call == "roster":
            return Fate(arrive_s=0.01, error=RuntimeError("a roster that nobody can read"))
        climate = self.climate
        if draw() < climate.fails:
            return self._failure(call)
        if draw() < climate.slow:
            return Fate(0.3 * draw() * (draw() < 0.5), 0.3 * draw() * (draw() < 0.5), 0.3 * draw() * (draw() < 0.5))
        if call in _WRITES and draw() < climate.very_slow:
            long_s = _LONG_S * draw()
            return Fate(arrive_s=long_s) if draw() < 0.5 else Fate(commit_s=long_s)
        return _CALM[int(draw() * len(_CALM))]

    def _failure(self, call: str) -> Fate:
        draw = self.dice.random
        if call not in _WRITES:
            error = StorageTimeoutError("too long") if draw() < 0.3 else StorageUnavailableError("no connection")
            return Fate(arrive_s=0.05 * draw(), error=error)
        chosen = draw()
        if chosen < 0.2:
            return Fate(error=NothingWrittenError("no connection"), lost_request=True)
        if chosen < 0.4:
            return Fate(0.1 * draw(), error=StorageUnavailableError("no reply"), lost_request=True)
        return Fate(0.1 * draw(), 0.5 * draw() * (draw() < 0.5), 0.1 * draw(), StorageUnavailableError("no reply"))

    def network_s(self) -> float:
        """How long the next bytes take."""
        return 0.0005 + self.dice.random() * (0.001 if self.calm else self.climate.network_s)

    def answer_s(self) -> float:
        """How long one way to or from Redis takes: both together less than what is waited for."""
        return self.dice.random() * (0.001 if self.calm else min(self.climate.network_s, 0.4))

    def loses_call(self) -> bool:
        """Whether a request to Redis is lost, or its answer."""
        return not self.calm and self.dice.random() < self.climate.fails / 2
