"""The table of a bench, for people: each number with its median, its spread over the rounds, and its target."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.table import Table

from loadtest.bench.bench_numbers import Met, measured
from loadtest.bench.bench_rows import RunNumbers, TargetNumber, TargetRow

_COLOURS = {Met.AIM: "green", Met.MUST: "yellow", Met.BELOW: "red", Met.NONE: "default"}


def make_table(rows: Iterable[TargetRow], done: Sequence[RunNumbers]) -> Table:
    """A line for each row, and below it one for each of its numbers."""
    table = Table()
    table.add_column("row", justify="right")
    table.add_column("number")
    for heading in ("median", "least to most", "must", "aim", "meets"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(str(row.number), f"[bold]{row.what}[/]")
        for number in row.numbers:
            table.add_row("", number.what, *_cells(number, done))
        table.add_section()
    return table


def _cells(number: TargetNumber, done: Sequence[RunNumbers]) -> list[str]:
    found = measured(number, done)
    bound = "≤ " if number.at_most else "≥ "
    targets = ["" if value is None else f"{bound}{value:g}" for value in (number.must, number.aim)]
    if found is None:
        return ["none", "", *targets, ""]
    met = found.met(number)
    median = f"[{_COLOURS[met]}]{short(found.median)}[/]"
    return [median, f"{short(found.least)} to {short(found.most)}", *targets, met.value]


def short(value: float) -> str:
    """Three digits, as much as a median of a few rounds is worth."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
