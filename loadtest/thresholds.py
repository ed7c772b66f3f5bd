"""The thresholds of a scenario against the numbers of a run."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from loadtest.run_result import METRICS, CheckedThreshold, RunResult
from loadtest.scenario import Threshold


def with_thresholds(result: RunResult, thresholds: Mapping[str, Threshold]) -> RunResult:
    """The result with each threshold checked. Names are those of `METRICS`: `scenario.load` refuses any other."""
    checked = [
        CheckedThreshold(metric, METRICS[metric](result), threshold.at_most, threshold.at_least)
        for metric, threshold in thresholds.items()
    ]
    return msgspec.structs.replace(result, checked=checked)
