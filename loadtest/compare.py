"""Two sides of runs, number by number: the change, which direction is better, and whether it is beyond the tolerance.

A side is one file, or a folder of files: then its numbers are the medians of its runs.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from loadtest.metric_meanings import MEANINGS, Better, read_numbers
from loadtest.result_table import list_failures
from loadtest.run_result import ResultError, RunResult, read_result

TOLERANCE_PERCENT = 5.0
_STYLES = {"better": "green", "worse": "red"}
_WIDTH = 120


class ComparedNumber(msgspec.Struct, frozen=True):
    """One number of both sides: medians, None where a side lacks it; spreads are largest minus smallest.

    `change_percent` is None where a side lacks the number. `verdict` is `better`, `worse`, `same`, or empty for a
    number that is not judged; `beyond` the tolerance.
    """

    metric: str
    a: float | None
    b: float | None
    a_spread: float
    b_spread: float
    change_percent: float | None
    verdict: str
    beyond: bool


class Comparison(msgspec.Struct, frozen=True):
    """All numbers that a side has, and what a reader must know before trusting them."""

    tolerance_percent: float
    numbers: list[ComparedNumber]
    notes: list[str]
    b_failed: bool

    @property
    def worse(self) -> bool:
        """Whether B is worse beyond the tolerance, or failed."""
        return self.b_failed or any(each.beyond and each.verdict == "worse" for each in self.numbers)


def read_side(path: Path) -> list[RunResult]:
    """The result in a file, or those in the `.json` files of a folder; raises `ResultError`."""
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not files:
        raise ResultError(f"{path} has no .json file")
    return [read_result(file) for file in files]


def compare(a: Sequence[RunResult], b: Sequence[RunResult], tolerance_percent: float = TOLERANCE_PERCENT) -> Comparison:
    """Compare two sides of one or more runs each."""
    a_numbers, b_numbers = [[read_numbers(result) for result in side] for side in (a, b)]
    known = {name for numbers in (*a_numbers, *b_numbers) for name in numbers}
    return Comparison(
        tolerance_percent=tolerance_percent,
        numbers=[
            _compare_number(name, _values(name, a_numbers), _values(name, b_numbers), tolerance_percent)
            for name in MEANINGS
            if name in known
        ],
        notes=_list_notes(a, b),
        b_failed=not all(result.good for result in b),
    )


def _values(name: str, runs: Sequence[dict[str, float]]) -> list[float]:
    return [run[name] for run in runs if name in run]


def _compare_number(name: str, a: list[float], b: list[float], tolerance_percent: float) -> ComparedNumber:
    a_median = statistics.median(a) if a else None
    b_median = statistics.median(b) if b else None
    better = MEANINGS[name].better
    if a_median is None or b_median is None:
        change, verdict = None, "worse" if b_median is None and better is not Better.UNJUDGED else ""
    else:
        change = (b_median - a_median) / abs(a_median) * 100
        verdict = _judge(change, better)
    return ComparedNumber(
        metric=name,
        a=a_median,
        b=b_median,
        a_spread=_spread(a),
        b_spread=_spread(b),
        change_percent=change,
        verdict=verdict,
        beyond=verdict in _STYLES and abs(math.inf if change is None else change) > tolerance_percent,
    )


def _judge(change: float, better: Better) -> str:
    if better is Better.UNJUDGED:
        return ""
    if change == 0:
        return "same"
    return "better" if change * better.value > 0 else "worse"


def _spread(values: list[float]) -> float:
    return max(values) - min(values) if values else 0.0


def _list_notes(a: Sequence[RunResult], b: Sequence[RunResult]) -> list[str]:
    notes = []
    scenarios = sorted({result.scenario for result in (*a, *b)})
    if len(scenarios) > 1:
        notes.append(f"The runs are of different scenarios: {', '.join(scenarios)}.")
    if len({(result.people, round(result.seconds)) for result in (*a, *b)}) > 1:
        notes.append("The runs differ in people or in length.")
    machines = sorted({f"{it.machine.processor}, {it.machine.cores} cores" for it in (*a, *b)})
    if len(machines) > 1:
        notes.append(f"The runs are of different machines: {'; '.join(machines)}.")
    for side, results in (("A", a), ("B", b)):
        notes += [f"{side} failed: {sentence}" for result in results for sentence in list_failures(result)]
        notes += [f"{side}: {result.bottleneck}" for result in results if result.bottleneck]
    return notes


def write_comparison(comparison: Comparison, stream: TextIO) -> None:
    """Write the comparison as a table for people."""
    console = Console(file=stream, width=None if stream.isatty() else _WIDTH, highlight=False)
    spread = any(each.a_spread or each.b_spread for each in comparison.numbers)
    table = Table(box=None, pad_edge=False)
    for title in ("number", "A", "B", *(["spread A", "spread B"] if spread else []), "change", ""):
        table.add_column(title, justify="left" if title in {"number", ""} else "right", no_wrap=True)
    for each in comparison.numbers:
        as_text = MEANINGS[each.metric].as_text
        table.add_row(
            each.metric,
            as_text(each.a),
            as_text(each.b),
            *([as_text(each.a_spread), as_text(each.b_spread)] if spread else []),
            "-" if each.change_percent is None else f"{each.change_percent:+.1f} %",
            Text(each.verdict.upper() if each.beyond else each.verdict, _STYLES[each.verdict] if each.beyond else ""),
        )
    console.print(table)
    for note in comparison.notes:
        console.print(Text(note, style="yellow"), soft_wrap=True)
    console.print(Text(_conclude(comparison)), soft_wrap=True)


def _conclude(comparison: Comparison) -> str:
    worse = [each.metric for each in comparison.numbers if each.beyond and each.verdict == "worse"]
    tolerance = f"{comparison.tolerance_percent:g} %"
    if worse:
        return f"B is worse beyond {tolerance} in: {', '.join(worse)}."
    return "B failed." if comparison.b_failed else f"B is nowhere worse beyond {tolerance}."
