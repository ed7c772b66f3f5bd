"""What several rounds say: the median of each number, how far it spreads, and whether it meets its target."""

from __future__ import annotations

import enum
import statistics
from collections.abc import Sequence

import msgspec

from loadtest.bench.bench_rows import RunNumbers, TargetNumber


class Met(enum.Enum):
    """How a number stands to its target."""

    AIM = "aim"
    MUST = "must"
    BELOW = "below"
    NONE = ""


class Spread(msgspec.Struct, frozen=True):
    """A number over all rounds that have it: the middle, and the ends."""

    values: list[float]

    @property
    def median(self) -> float:
        """The value in the middle; of an even count the mean of both."""
        return statistics.median(self.values)

    @property
    def least(self) -> float:
        """The lowest value of a round."""
        return min(self.values)

    @property
    def most(self) -> float:
        """The highest value of a round."""
        return max(self.values)

    def met(self, number: TargetNumber) -> Met:
        """What the median meets; `NONE` without a target."""
        if number.must is None:
            return Met.NONE
        for bound, met in ((number.aim, Met.AIM), (number.must, Met.MUST)):
            if bound is not None and (self.median <= bound if number.at_most else self.median >= bound):
                return met
        return Met.BELOW


def measured(number: TargetNumber, done: Sequence[RunNumbers]) -> Spread | None:
    """The number in each round, None if no round has it. A ratio is that of two runs of the same round."""
    found = {(each.run, each.round): each.metrics.get(number.metric) for each in done}
    rounds = [(value, found.get((number.beside, at))) for (run, at), value in found.items() if run == number.run]
    known = [scaled for value, beside in rounds if (scaled := _scaled(number, value, beside)) is not None]
    return Spread(known) if known else None


def _scaled(number: TargetNumber, value: float | None, beside: float | None) -> float | None:
    if value is None or not number.beside:
        return None if value is None else value * number.factor
    return value / beside * number.factor if beside else None
