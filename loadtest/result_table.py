"""The result of a run as a table for the terminal, and its failures as sentences."""

from __future__ import annotations

from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from loadtest.metric_meanings import MEANINGS, read_numbers
from loadtest.run_result import CheckedThreshold, Checks, RunResult

CHECK_WORDS = {
    "expected": "deliveries expected",
    "received": "deliveries received",
    "lost": "lost",
    "doubled": "received twice",
    "misordered": "out of order",
    "refused": "sends refused",
    "unanswered": "sends without an answer",
    "broken": "connections that ended by themselves",
    "odd": "messages that nobody expected",
}
_NARROWEST = 100
"""Columns of a line where standard output is a file, and no terminal tells its width."""


def write_table(result: RunResult, stream: TextIO) -> None:
    """Write the table, what failed, and whether the load was the bottleneck."""
    console = Console(file=stream, width=None if stream.isatty() else _NARROWEST, highlight=False)
    table = Table(title=Text(f"{result.scenario}: {result.about}"), title_justify="left", box=None, pad_edge=False)
    table.add_column("number", no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("threshold", no_wrap=True)
    table.add_column("meaning")
    checked = {each.metric: each for each in result.checked}
    for name in [name for name in MEANINGS if name in read_numbers(result) or name in checked]:
        table.add_row(*_row(name, result, checked.get(name)))
    console.print(table)
    console.print(Text(_checks_line(result.checks)), soft_wrap=True)
    if result.bottleneck:
        console.print(Text(f"Bottleneck: {result.bottleneck}", style="yellow"), soft_wrap=True)
    for sentence in list_failures(result):
        console.print(Text(f"Failed: {sentence}", style="red"), soft_wrap=True)
    if result.good:
        console.print(Text("Good: every check and every threshold held.", style="green"), soft_wrap=True)


def list_failures(result: RunResult) -> list[str]:
    """A sentence for each thing that failed, the checks first."""
    checks = result.checks
    sentences = []
    if checks.failed:
        found = ", ".join(f"{getattr(checks, name):,} {CHECK_WORDS[name]}" for name in _failed(checks))
        first = f" The first: {checks.first}" if checks.first else ""
        sentences.append(f"of {checks.expected:,} expected deliveries {checks.received:,} came; {found}.{first}")
    return sentences + [_missed(each) for each in result.checked if not each.held]


def bounds_of(threshold: CheckedThreshold) -> str:
    """What the threshold asks for: `at least 20,000`, `at most 5.00 ms`."""
    meaning = MEANINGS.get(threshold.metric)
    bounds = {"at least": threshold.at_least, "at most": threshold.at_most}
    return ", ".join(
        f"{words} {meaning.as_text(bound) if meaning else bound}"
        for words, bound in bounds.items()
        if bound is not None
    )


def _row(name: str, result: RunResult, threshold: CheckedThreshold | None) -> tuple[Text, ...]:
    meaning = MEANINGS[name]
    value = threshold.value if threshold else read_numbers(result)[name]
    asked = Text("")
    if threshold is not None:
        held = threshold.held
        asked = Text(f"{'held' if held else 'MISSED'}: {bounds_of(threshold)}", style="green" if held else "bold red")
    return Text(name), Text(meaning.as_text(value)), asked, Text(meaning.words)


def _checks_line(checks: Checks) -> str:
    found = "none" if not checks.failed else f"{checks.failed:,}"
    return f"Checks: {checks.received:,} of {checks.expected:,} expected deliveries received; failures: {found}"


def _failed(checks: Checks) -> list[str]:
    return [name for name in CHECK_WORDS if name not in {"expected", "received"} and getattr(checks, name)]


def _missed(threshold: CheckedThreshold) -> str:
    meaning = MEANINGS.get(threshold.metric)
    value = meaning.as_text(threshold.value) if meaning else str(threshold.value)
    was = "was not measured" if threshold.value is None else f"is {value}"
    return f"{threshold.metric} {was}; the threshold is {bounds_of(threshold)}."
