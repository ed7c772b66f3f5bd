"""A bench for machines: what was asked, each number of the table, and every metric of every run of every round."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from loadtest.bench.bench_numbers import measured
from loadtest.bench.bench_rows import RUNS, RunNumbers, TargetNumber, TargetRow
from loadtest.bench.rounds import BenchPlan
from loadtest.run import describe_machine


def as_json(plan: BenchPlan, done: Sequence[RunNumbers]) -> dict[str, Any]:
    """`numbers` has an object for each number of the table, `runs` one for each row and each of its runs."""
    return {
        "machine": describe_machine(),
        "seed": plan.seed,
        "rounds": plan.rounds,
        "numbers": [_number(row, number, done) for row in plan.rows for number in row.numbers],
        "runs": [_run(row, name, done) for row in plan.rows for name in row.runs],
    }


def _number(row: TargetRow, number: TargetNumber, done: Sequence[RunNumbers]) -> dict[str, Any]:
    found = measured(number, done)
    middle = {"median": found.median, "least": found.least, "most": found.most} if found else {}
    said = {"what": number.what, "must": number.must, "aim": number.aim, "at_most": number.at_most}
    return {"row": row.number, **said, **middle, "values": found.values if found else []}


def _run(row: TargetRow, name: str, done: Sequence[RunNumbers]) -> dict[str, Any]:
    about = {"row": row.number, "run": name, "server": RUNS[name].server, "scenario": RUNS[name].scenario}
    return {**about, "rounds": [each for each in done if each.run == name]}
