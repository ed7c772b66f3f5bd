"""`python -m loadtest.money`: pairs of hold and capture a second, with fees, limits, audit, outbox and kept answers.

Rows: singles (one step a call), batches (50 steps a call), and singles that all pay one shop of 16 slots, against many
shops. One JSON line on standard output; progress on standard error.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
from pathlib import Path

import asyncpg
import msgspec
import uvloop

from loadtest.money.money_stage import MoneyStage, PairResult, run_batches, run_singles
from storage.embedded.cluster import EmbeddedPostgres

_SINGLES = (1, 4, 8, 16)
_BATCHES = (1, 2, 4)


class MoneyReport(msgspec.Struct):
    """Medians over the rounds, in pairs a second; `spread` the lowest and highest of each."""

    seconds: float
    rounds: int
    singles: dict[int, float]
    batches: dict[int, float]
    many_shops: float
    one_shop: float
    shared_ratio: float
    per_postgres_cpu_s: dict[str, float]
    spread: dict[str, tuple[float, float]]


def main() -> int:
    """Run the rows and print the report."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.money", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement; default: 5")
    parser.add_argument("--rounds", type=int, default=3, help="of each row; default: 3")
    parser.add_argument("--people", type=int, default=2000, help="payers with limits; default: 2000")
    chosen = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # PostgreSQL may run as another user
        with EmbeddedPostgres(Path(folder) / "data", {"max_connections": "60"}) as postgres:
            report = runner.run(_measure(postgres, chosen.seconds, chosen.rounds, chosen.people))
    print(msgspec.json.encode(report).decode())
    return 0


async def _measure(postgres: EmbeddedPostgres, seconds: float, rounds: int, people: int) -> MoneyReport:
    results: dict[str, list[PairResult]] = {}
    for number in range(rounds):
        rows = [
            *((f"singles {lanes}", lanes, 1, 100, run_singles) for lanes in _SINGLES),
            *((f"batches {lanes}", lanes, 1, 100, run_batches) for lanes in _BATCHES),
            ("many shops", 4, 1, 100, run_singles),
            ("one shop", 4, 16, 1, run_singles),
        ]
        for name, lanes, slots, shops, run in rows:
            database = f"{name} {number}".replace(" ", "_")
            stage = await _stage(postgres, database, lanes=lanes, people=people, shops=shops, slots=slots)
            result = await run(stage, lanes, seconds)
            await stage.close()
            results.setdefault(name, []).append(result)
            print(f"round {number + 1}: {name}: {result.pairs_per_s:.0f} pairs/s", file=sys.stderr, flush=True)
    medians = {name: statistics.median(each.pairs_per_s for each in found) for name, found in results.items()}
    return MoneyReport(
        seconds,
        rounds,
        {lanes: round(medians[f"singles {lanes}"]) for lanes in _SINGLES},
        {lanes: round(medians[f"batches {lanes}"]) for lanes in _BATCHES},
        round(medians["many shops"]),
        round(medians["one shop"]),
        round(medians["one shop"] / medians["many shops"], 2),
        {name: round(statistics.median(each.pairs_per_cpu_s for each in found)) for name, found in results.items()},
        {
            name: (round(min(each.pairs_per_s for each in found)), round(max(each.pairs_per_s for each in found)))
            for name, found in results.items()
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
