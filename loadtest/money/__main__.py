"""`python -m loadtest.money`: pairs of hold and capture a second, with fees, limits, audit, outbox and kept answers.

Rows: singles (one step a call), batches (50 steps a call), singles that all pay one shop of 16 slots, against many
shops, and pairs over HTTP, with two processes of the service, by so many clients at once. One JSON line on standard
output; progress on standard error.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import asyncpg
import msgspec
import uvloop

from loadtest.money.http_stage import HttpResult, HttpStage
from loadtest.money.money_stage import MoneyStage, PairResult, run_batches, run_singles
from storage.embedded.cluster import EmbeddedPostgres

_SINGLES = (1, 4, 8, 16)
_BATCHES = (1, 2, 4)
_CLIENTS = (8, 24, 64)
_ROWS = ("singles", "batches", "shared", "http")
_HTTP_SHOPS = 50
_PROCESSES = 2
"""Of the service: one for each core of the machine that the numbers in docs/performance.md are of."""
_HTTP_PAIRS_PER_S_MAX = 3_000
"""For so many holds tokens are signed before a measurement."""


Results = dict[str, list[PairResult | HttpResult]]
"""By row: what each round measured."""


class MoneyReport(msgspec.Struct, omit_defaults=True):
    """Medians over the rounds; `spread` has the lowest and highest of each. What was not run is absent."""

    seconds: float
    rounds: int
    pairs_per_s: dict[str, int]
    spread: dict[str, tuple[int, int]]
    per_postgres_cpu_s: dict[str, int]
    shared_ratio: float | None = None
    http: dict[str, HttpResult] = {}
    """By clients: the round that was in the middle."""


def main() -> int:
    """Run the rows and print the report."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.money", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement; default: 5")
    parser.add_argument("--rounds", type=int, default=3, help="of each row; default: 3")
    parser.add_argument("--people", type=int, default=2000, help="payers with limits; default: 2000")
    parser.add_argument("--rows", default=",".join(_ROWS), help=f"default: {','.join(_ROWS)}")
    chosen = parser.parse_args()
    rows = chosen.rows.split(",")
    if unknown := set(rows) - set(_ROWS):
        parser.error(f"there is no row {', '.join(sorted(unknown))}: there are {', '.join(_ROWS)}")
    results: Results = {}
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(_folder())
        postgres = stack.enter_context(EmbeddedPostgres(folder / "data", {"max_connections": "100"}))
        runner = stack.enter_context(asyncio.Runner(loop_factory=uvloop.new_event_loop))
        if in_postgres := [row for row in rows if row != "http"]:
            runner.run(_measure(postgres, in_postgres, results, chosen))
        if "http" in rows:
            stage = stack.enter_context(HttpStage(folder, postgres, processes=_PROCESSES))
            runner.run(_measure_http(stage, results, chosen))
    print(msgspec.json.encode(_report(results, chosen)).decode())
    return 0


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # PostgreSQL may run as another user
        yield Path(folder)


async def _measure(
    postgres: EmbeddedPostgres, rows: Sequence[str], results: Results, chosen: argparse.Namespace
) -> None:
    runs = {
        "singles": [(f"singles {lanes}", lanes, 1, 100, run_singles) for lanes in _SINGLES],
        "batches": [(f"batches {lanes}", lanes, 1, 100, run_batches) for lanes in _BATCHES],
        "shared": [("many shops", 4, 1, 100, run_singles), ("one shop", 4, 16, 1, run_singles)],
    }
    for number in range(chosen.rounds):
        for name, lanes, slots, shops, run in (each for row in rows for each in runs[row]):
            database = f"{name} {number}".replace(" ", "_")
            stage = await _stage(postgres, database, lanes=lanes, people=chosen.people, shops=shops, slots=slots)
            _note(results, name, number, await run(stage, lanes, chosen.seconds))
            await stage.close()


async def _measure_http(stage: HttpStage, results: Results, chosen: argparse.Namespace) -> None:
    await stage.fill(chosen.people, _HTTP_SHOPS)
    for number in range(chosen.rounds):
        for clients in _CLIENTS:
            holds = stage.sign_holds(round(chosen.seconds * _HTTP_PAIRS_PER_S_MAX) + clients)
            _note(results, f"http {clients}", number, await stage.run(clients, holds, chosen.seconds))


def _note(results: Results, name: str, number: int, result: PairResult | HttpResult) -> None:
    results.setdefault(name, []).append(result)
    print(f"round {number + 1}: {name}: {result.pairs_per_s:.0f} pairs/s", file=sys.stderr, flush=True)


def _report(results: Results, chosen: argparse.Namespace) -> MoneyReport:
    speeds = {name: sorted(round(each.pairs_per_s) for each in found) for name, found in results.items()}
    medians = {name: round(statistics.median(found)) for name, found in speeds.items()}
    return MoneyReport(
        seconds=chosen.seconds,
        rounds=chosen.rounds,
        pairs_per_s=medians,
        spread={name: (found[0], found[-1]) for name, found in speeds.items()},
        per_postgres_cpu_s={
            name: round(statistics.median(each.pairs_per_cpu_s for each in found if isinstance(each, PairResult)))
            for name, found in results.items()
            if isinstance(found[0], PairResult)
        },
        shared_ratio=round(medians["one shop"] / medians["many shops"], 2) if "one shop" in medians else None,
        http={
            name: middle
            for name, found in results.items()
            if isinstance(middle := sorted(found, key=lambda each: each.pairs_per_s)[len(found) // 2], HttpResult)
        },
    )


async def _stage(
    postgres: EmbeddedPostgres, name: str, *, lanes: int, people: int, shops: int, slots: int
) -> MoneyStage:
    """A database of its own, so that no row meets what the one before has left."""
    connection = await asyncpg.connect(postgres.url)
    try:
        await connection.execute(f"CREATE DATABASE {name}")
    finally:
        await connection.close()
    url = postgres.database_url(name)
    return await MoneyStage.open(url, postgres.pid, lanes=lanes, people=people, shops=shops, shop_slots=slots)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())
