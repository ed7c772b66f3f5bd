"""Approvals under attack: `python -m tests.adversity.approve --attempts 10000 --seed N`.

Attackers replay requests and tokens, keep them back, use them for another payment, body or key, approve on two devices
at once, show another amount, version, currency or payee than they ask for, act as bots and services, forge proofs and
tokens, and take the steps of others: over HTTP, against the commerce service on a PostgreSQL of its own. Meanwhile
honest people pay. Then the ledger is asked what moved, and each step is looked up among those that somebody agreed to.

Prints one JSON line, and exits with 1 unless `moved_unapproved` and `approved_twice` are 0. `--break NAME` takes one
protection away, so that they are not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import uvloop

from storage.commerce.schema import MONEY_SCHEMA
from storage.embedded.cluster import EmbeddedPostgres
from storage.postgres.migrate import migrate
from tests.adversity.approve_attacks import ATTACKS
from tests.adversity.approve_audit import COUNTS, audit
from tests.adversity.approve_breaks import BREAKS, ApprovalBreak
from tests.adversity.approve_stage import ApproveStage, make_config
from tests.support.commerce_world import opened_world

ATTACKERS_MAX = 8


async def attack_approvals(
    url: str, attempts: int, seed: int, broken: ApprovalBreak | None = None
) -> tuple[dict[str, Any], list[str]]:
    """A run on the migrated, empty database at `url`; what came of it, and the first of what was wrong."""
    begun_s = time.monotonic()
    async with opened_world(url, make_config()) as world:
        stage = ApproveStage(world, random.Random(seed))
        await stage.open()
        with (broken or ApprovalBreak("")).applied() as statements:
            for statement in statements:
                await world.database.execute(statement)
            names = _endless(list(broken.attacks if broken else ATTACKS), stage.rng)
            async with asyncio.TaskGroup() as group:
                for _ in range(min(ATTACKERS_MAX, 1 + attempts // 100)):
                    group.create_task(_attack(stage, names, attempts))
        counts, said = await audit(world.database, stage.consents)
    return {
        "attempts": stage.attempts,
        "honest_done": stage.honest["done"],
        "honest_refused": stage.honest["refused"],
        "statuses": {str(status): stage.statuses[status] for status in sorted(stage.statuses)},
        "seconds": round(time.monotonic() - begun_s),
        "seed": seed,
        **counts,
    }, said


async def _attack(stage: ApproveStage, names: Iterator[str], attempts: int) -> None:
    """Attack until there were enough attempts."""
    while stage.attempts < attempts:
        await ATTACKS[next(names)](stage)


def _endless(names: list[str], rng: random.Random) -> Iterator[str]:
    """All of them, in another order each time."""
    while True:
        yield from names
        rng.shuffle(names)


async def _run(postgres: EmbeddedPostgres, attempts: int, seed: int, name: str | None) -> tuple[Any, list[str]]:
    connection = await asyncpg.connect(postgres.url)
    await connection.execute("CREATE DATABASE approve")
    await connection.close()
    url = postgres.database_url("approve")
    await migrate(url, schema=MONEY_SCHEMA)
    return await attack_approvals(url, attempts, seed, BREAKS[name] if name else None)


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.adversity.approve", description=__doc__)
    parser.add_argument("--attempts", type=int, default=10_000, help="requests that nobody agreed to")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--break", dest="broken", choices=sorted(BREAKS), metavar="NAME", help=", ".join(BREAKS))
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with (
        tempfile.TemporaryDirectory(prefix="tchat-approve-") as folder,
        EmbeddedPostgres(Path(folder) / "data") as postgres,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        summary, said = runner.run(_run(postgres, chosen.attempts, chosen.seed, chosen.broken))
    for line in said:
        print(line, file=sys.stderr)  # noqa: T201 - a command prints
    print(json.dumps(summary))  # noqa: T201 - a command prints
    return 1 if any(summary[name] for name in COUNTS) else 0


if __name__ == "__main__":
    sys.exit(main())
