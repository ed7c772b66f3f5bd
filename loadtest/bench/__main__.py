"""`python -m loadtest.bench`: measures the targets of performance on this machine, and prints a table.

Each row of the table has runs: a scenario on a fresh `tchat serve` with its embedded PostgreSQL, or on a minimal server
of `loadtest/baselines/`. Every round carries out each run once, in random order. With two cores or more the server and
PostgreSQL stay on the first one, the load on the others. docs/performance.md says how to read the table.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from loadtest.bench.bench_report import as_json
from loadtest.bench.bench_rows import ROWS, RunNumbers, TargetRow
from loadtest.bench.bench_table import make_table, short
from loadtest.bench.machine_noise import join_noise
from loadtest.bench.rounds import BenchPlan, carry_out
from loadtest.processes import allow_all_files
from loadtest.run_result import ResultError, Sample, check_writable

_SEEDS = 10_000
_FILE_CHARS = 120
_NUMBER_MAX = 86_400


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 0 if every run gave its numbers, 1 if one did not."""
    plan, file = _read(arguments)
    screen, log = _screen(), Console(stderr=True)
    log.print(f"{len(plan.names)} runs in each of {plan.rounds} rounds; --seed {plan.seed} repeats their order")
    done: list[RunNumbers] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    # No thread of ours refreshes the screen: it would be taken for noise of the machine.
    shown_on = Progress(*columns, console=log, transient=True, auto_refresh=False)
    # Who ends a bench of an hour early keeps what there is.
    with contextlib.suppress(KeyboardInterrupt), shown_on as progress:
        shown = Shown(progress, plan)
        for found in carry_out(plan, shown.begin):
            done.append(found)
            shown.end(found)
            if file:
                file.write_bytes(msgspec.json.format(msgspec.json.encode(as_json(plan, done))) + b"\n")
    screen.print(make_table(plan.rows, done))
    if noises := [each.noise for each in done if each.noise]:
        screen.print(f"Before the runs {join_noise(noises)}.", markup=False, highlight=False)
    for each in done:
        if each.trouble or each.bottleneck:
            why = each.trouble or f"the load was the bottleneck: {each.bottleneck}"
            screen.print(f"{each.run}, round {each.round}: {why}", markup=False)
    complete = len(done) == plan.rounds * len(plan.names)
    return 0 if complete and not any(each.trouble for each in done) else 1


class Shown:
    """The bench as a person sees it while it runs."""

    def __init__(self, progress: Progress, plan: BenchPlan) -> None:
        self._progress = progress
        self._rows = plan.rows
        self._runs = progress.add_task("", total=plan.rounds * len(plan.names))
        self._now = ""

    def begin(self, run: str, number: int) -> Shown:
        """A run begins, of this round."""
        self._now = f"round {number}: {run}"
        return self

    def phase(self, name: str, total_s: float | None) -> None:
        """A part of the run begins."""
        said = f"{self._now}, {name}{f' ({total_s:g} s)' if total_s else ''}"
        self._progress.update(self._runs, description=said, refresh=True)

    def show(self, sample: Sample) -> None:
        """What is happening is not shown: the terminal would cost the load its core."""

    def _read(self, found: RunNumbers) -> Iterator[tuple[str, float]]:
        """The metrics of a run that rows read."""
        numbers = [number for row in self._rows for number in row.numbers if found.run in {number.run, number.beside}]
        for name in dict.fromkeys(number.metric for number in numbers):
            if (value := found.metrics.get(name)) is not None:
                yield name, value

    def end(self, found: RunNumbers) -> None:
        """A run has ended."""
        said = found.trouble or ", ".join(f"{name} {short(value)}" for name, value in self._read(found))
        self._progress.console.print(f"round {found.round}: {found.run}: {said}", markup=False, highlight=False)
        self._progress.advance(self._runs)


def _screen() -> Console:
    """The terminal, or a file as wide as the table."""
    return Console(width=None if sys.stdout.isatty() else _FILE_CHARS)


def _read(arguments: Sequence[str] | None) -> tuple[BenchPlan, Path | None]:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    every = ",".join(str(row.number) for row in ROWS if not row.long)
    parser.add_argument("--rows", type=_rows, metavar="N,N", default=every, help=f"default: {every}")
    parser.add_argument("--rounds", type=_above_0(int), metavar="N", default=3, help="default: 3")
    seconds = "of each run, instead of what its scenario says"
    parser.add_argument("--seconds", type=_above_0(float), metavar="S", help=seconds)
    parser.add_argument("--seed", type=int, default=random.randrange(_SEEDS), help="of the order")  # noqa: S311
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every number of every run there, too")
    parser.add_argument("--quick", action="store_true", help="tiny runs that show that it works")
    chosen = parser.parse_args(arguments)
    if chosen.json:
        try:
            check_writable(chosen.json)
        except ResultError as error:
            parser.error(str(error))
    allow_all_files()
    return BenchPlan(chosen.rows, chosen.rounds, chosen.seed, chosen.seconds, chosen.quick), chosen.json


def _above_0(number: Callable[[str], float]) -> Callable[[str], float]:
    """How a number above 0 is read."""

    def read(text: str) -> float:
        with contextlib.suppress(ValueError):
            if 0 < (value := number(text)) <= _NUMBER_MAX:
                return value
        raise argparse.ArgumentTypeError(f"{text!r} is no number from above 0 to {_NUMBER_MAX:,}")

    return read


def _rows(text: str) -> list[TargetRow]:
    """The rows of a list of numbers, in the order of the table; raises ArgumentTypeError."""
    try:
        numbers = {int(number) for number in text.split(",")}
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of rows, such as 1,2,10") from None
    if unknown := numbers - {row.number for row in ROWS}:
        raise argparse.ArgumentTypeError(f"there is no row {min(unknown)}")
    return [row for row in ROWS if row.number in numbers]


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: what was started ends, too
    sys.exit(main())
