"""Carries out a bench: every run once in each round, in random order, each on a fresh server."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import uvloop

from loadtest import scenario
from loadtest.baselines.floor import FRAME_BYTES_BESIDE, measure_floor
from loadtest.bench.bench_rows import FLOOR, RUNS, BenchRun, RunNumbers, TargetRow
from loadtest.bench.machine_noise import measure_noise
from loadtest.bench.place import share_cores, started
from loadtest.lean_client import LoadError
from loadtest.processes import staying_on
from loadtest.run import Run
from loadtest.run_result import METRICS, RunResult
from loadtest.sampling import Watcher
from loadtest.scenario import Scenario, TalkLoad

_FLOOR_CPU_S = 2.0
_NOISE_S, _NOISE_QUICK_S = 1.0, 0.05
_QUICK = {"people": 20, "seconds": 0.3, "warm_up_s": 0.1, "ramp_s": 0.0, "workers": 1}
_QUICK_LOAD = {"dialog_size": 5, "writers": 2, "dialogs": 3, "at_once": 5, "rate": 200.0}
_QUICK_ROWS = 1_000


class BenchPlan(msgspec.Struct, frozen=True):
    """What is carried out; `seconds` of each run instead of its scenario's. `quick`: tiny, to show that it works."""

    rows: Sequence[TargetRow]
    rounds: int
    seed: int
    seconds: float | None = None
    quick: bool = False

    @property
    def names(self) -> list[str]:
        """The runs that the rows read, each once."""
        return list(dict.fromkeys(name for row in self.rows for name in row.runs))

    def orders(self) -> Iterator[list[str]]:
        """The runs of each round, in the order that the seed gives."""
        dice = random.Random(self.seed)  # noqa: S311 - an order that can be repeated, not a secret
        for _ in range(self.rounds):
            yield dice.sample(self.names, len(self.names))


Announce = Callable[[str, int], Watcher]
"""Is told which run begins, of which round; returns who is told how it goes."""


def carry_out(plan: BenchPlan, announce: Announce) -> Iterator[RunNumbers]:
    """Every run of every round, as it ends. A run that fails does not end the bench."""
    for number, names in enumerate(plan.orders(), 1):
        for name in names:
            noise = measure_noise(_NOISE_QUICK_S if plan.quick else _NOISE_S)
            try:
                found = measure(RUNS[name], plan, announce(name, number))
            except LoadError as error:
                yield RunNumbers(name, number, trouble=str(error), noise=noise)
            else:
                yield msgspec.structs.replace(found, run=name, round=number, noise=noise)


def measure(run: BenchRun, plan: BenchPlan, watcher: Watcher) -> RunNumbers:
    """One run on a server of its own; raises LoadError."""
    chosen = scenario_of(run, plan)
    if run.server == FLOOR:
        return RunNumbers("", 0, _floor(chosen))
    server_cores, load_cores = share_cores(run)
    with tempfile.TemporaryDirectory(prefix="tchat-bench-") as folder:
        if plan.quick:
            run = msgspec.structs.replace(run, journal_rows=min(run.journal_rows, _QUICK_ROWS))
        with (
            started(run, Path(folder), server_cores) as target,
            staying_on(load_cores),
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            result = runner.run(Run(chosen, target, watcher).perform())
    if result.checks.failed:
        raise LoadError(f"Not everything was delivered as it must be: {result.checks.first}.")
    return RunNumbers("", 0, numbers_of(result), result.bottleneck)


def numbers_of(result: RunResult) -> dict[str, float | None]:
    """Every metric of a result."""
    return {name: metric(result) for name, metric in METRICS.items()}


def scenario_of(run: BenchRun, plan: BenchPlan) -> Scenario:
    """The scenario of a run, with what differs; raises `msgspec.ValidationError` if it does not fit."""
    fields = msgspec.to_builtins(scenario.load(run.scenario))
    load = fields["load"] | run.load
    fields |= run.changes | {"thresholds": {}}
    if plan.seconds is not None:
        fields["seconds"] = plan.seconds
    if plan.quick:
        fields |= _QUICK
        load |= {name: min(load[name], most) for name, most in _QUICK_LOAD.items() if name in load}
    return msgspec.convert(fields | {"load": load}, Scenario)


def _floor(chosen: Scenario) -> dict[str, float | None]:
    """The bound has one metric: a delivery by the CPU of nothing but `send()`."""
    assert isinstance(chosen.load, TalkLoad)
    seconds = min(_FLOOR_CPU_S, chosen.seconds)
    floor = measure_floor(chosen.people, chosen.load.payload_bytes + FRAME_BYTES_BESIDE, chosen.load.writers, seconds)
    return {"delivered_per_tchat_cpu_s": floor.deliveries_per_cpu_s}
