"""Racers on a few wallets: `python -m tests.adversity.money --operations 1000000 --kills 50 --seed N`.

64 racers pay, hold, capture, void, request, approve, refund, chain, reverse, exchange and charge back, over one
PostgreSQL: the same key several times at once and late, also with another body; the same hold, request, quote and
transfer by several at once; chains over the same accounts in opposite order; shared accounts under their floor; limits
at midnight and over changes of time zone. Meanwhile the clock steps, months are closed, sockets are lost, and the
server or one of its processes is killed; what got no answer is repeated under its key.

Prints one JSON line, and exits with 1 unless each count of `money_audit.COUNTS` is 0. `--break NAME` makes one of the
ledger's functions wrong, so that they are not.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import logging
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop

from storage.embedded.cluster import EmbeddedPostgres
from tests.adversity.money_audit import COUNTS, audit
from tests.adversity.money_breaks import BREAKS, Break
from tests.adversity.money_calls import Crowd
from tests.adversity.money_disturbances import Disturbances
from tests.adversity.money_racers import WEIGHTS, Racer
from tests.adversity.money_stage import SETTINGS, MoneyStage
from tests.adversity.money_told import Told

RACERS = 64
_numbers = itertools.count(1)


async def race_for_money(
    postgres: EmbeddedPostgres, operations: int, kills: int, seed: int, broken: Break | None = None
) -> dict[str, Any]:
    """A run in a fresh database of `postgres`, which runs; what came of it."""
    rng = random.Random(seed)
    begun_s = time.monotonic()
    name, breaks = f"money_{next(_numbers)}", broken.statements() if broken else ()
    stage = await MoneyStage.open(postgres, name, breaks)
    with tempfile.TemporaryDirectory(prefix="tchat-told-") as folder:
        told = Told(Path(folder) / "told.csv")
        try:
            crowd = Crowd.gather(rng)
            plays = (broken and broken.plays) or WEIGHTS
            racers = [Racer(stage, told, crowd, random.Random(rng.random()), plays) for _ in range(RACERS)]
            await racers[0].prepare()
            disturbances = Disturbances(stage, told, random.Random(rng.random()))
            async with asyncio.TaskGroup() as group:
                for racer in racers:
                    group.create_task(racer.run(operations))
                group.create_task(disturbances.run(operations, kills, broken.months if broken else None))
            raced_s = time.monotonic() - begun_s
            async with stage.connected() as connection:
                counts = await audit(connection, told.close())
            counts["deadlocks"] = await stage.count_deadlocks()
        finally:
            told.close()
            await stage.close()
    if told.errors:
        print(*told.errors, sep="\n", file=sys.stderr)  # noqa: T201 - a command prints
    return {
        "operations": told.operations,
        "kills": stage.kills,
        "cuts": disturbances.cuts,
        "clock_steps": disturbances.clock_steps,
        "months": len(disturbances.closed_us),
        "seconds": round(time.monotonic() - begun_s),
        "per_second": round(told.operations / raced_s),
        "seed": seed,
        **{name: counts[name] + told.counts[name] for name in COUNTS},
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.adversity.money", description=__doc__)
    parser.add_argument("--operations", type=int, default=1_000_000, help="calls that are answered in all")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--break", dest="broken", choices=sorted(BREAKS), metavar="NAME", help=", ".join(BREAKS))
    chosen = parser.parse_args()
    logging.getLogger("asyncpg").setLevel(logging.CRITICAL)  # its pool says each time that it could not connect
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    broken = BREAKS.get(chosen.broken)
    with (
        tempfile.TemporaryDirectory(prefix="tchat-money-") as folder,
        EmbeddedPostgres(Path(folder) / "data", SETTINGS) as postgres,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        said = runner.run(race_for_money(postgres, chosen.operations, chosen.kills, chosen.seed, broken))
    print(json.dumps(said))  # noqa: T201 - a command prints
    return 1 if any(said[name] for name in COUNTS) else 0


if __name__ == "__main__":
    sys.exit(main())
