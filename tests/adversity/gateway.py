"""Money over a gateway while all fails: `python -m tests.adversity.gateway --payments 20000 --faults all --kills 20`.

People top up, pay requests by card and QR code, withdraw and are refunded, over two processes of `tchat commerce` on
one PostgreSQL. The gateway is a fake one with its own book, and all of its faults: answers that are lost or late, cards
that are declined, codes that are paid late, twice, in part or too much, refunds and payouts that fail or come back,
chargebacks, webhooks that are doubled, late, lost or forged. Meanwhile processes of both sides are killed. Then the
faults end, and within 60 s both books must say the same.

Prints one JSON line with the counts of `gateway_audit.py`, and exits with 1 unless all are 0 in time.
"""
# ruff: noqa: T201 - a command prints

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import asyncpg

from storage.commerce.schema import MONEY_SCHEMA
from storage.embedded.cluster import EmbeddedPostgres
from storage.postgres.migrate import migrate
from tests.adversity.gateway_audit import COUNTS, GatewayAudit
from tests.adversity.gateway_crowd import Crowd
from tests.adversity.gateway_processes import KEY_WINDOW_S, NAME, CommerceProcess, RemoteCommerce, write_settings
from tests.engines.server_process import HOST, RestartableServer
from tests.support.fake_gateway.faults import NAMES
from tests.support.fake_gateway.process import FakeGateway
from tests.support.money_world import TENANT, MoneyWorld

HEAL_S_MAX = 60.0
WORKERS = 8
_LOOK_S = 0.5
_LOOKS_MAX = 20
_UNCALLED = "SELECT count(*) FROM intents WHERE state = 1"
_LATE_S = 1.0
_REST_S_MIN = 5.0
"""What was begun at the gateway may go on for so long by itself: a code expires, is paid late, and is charged back."""
_CHANCES = {
    "call_times_out": 0.01,
    "call_limited": 0.02,
    "card_pending": 0.3,
    "webhook_lost": 0.3,
    "webhook_doubled": 0.1,
    "refund_returned": 0.2,
    "payout_returned": 0.2,
    "chargeback_won": 0.5,
}
_CHANCE = 0.05
"""Of a fault that is not above."""


class GatewayRun:
    """All that a run needs."""

    def __init__(self, folder: Path, postgres_url: str, seed: int, processes: int) -> None:
        self.rng = random.Random(seed)
        self._folder = folder
        self._url = postgres_url
        self.commerce = [CommerceProcess(folder, number, postgres_url) for number in range(processes)]
        events = f"http://{HOST}:{self.commerce[0].port}/v1/gateways/{NAME}/events"
        options = {
            "webhook-url": events,
            "seed": str(seed),
            "settle-s": "0.3",
            "late-s": str(_LATE_S),
            "key-window-s": str(KEY_WINDOW_S + 15),
        }
        self.fake = FakeGateway(folder / "gateway", options, customers=True)
        self.remote = RemoteCommerce(self.commerce, random.Random(self.rng.random()))
        self.felt: Counter[str] = Counter()
        self._felt_before: Counter[str] = Counter()
        self.crowd = Crowd(self.remote, random.Random(self.rng.random()))

    async def open(self) -> None:
        """Return when everything runs and people have wallets."""
        await asyncio.to_thread(self.fake.start)
        write_settings(self._folder, self.fake.url)
        await migrate(self._url, schema=MONEY_SCHEMA)
        money = await MoneyWorld.open(self._url, size=2)
        await money.set_fee(150, 1)
        await money.database.execute(f"INSERT INTO reference_rates VALUES ({TENANT}, 'THB', 1)")
        await self.crowd.gather(money)
        await money.close()
        await asyncio.gather(*(asyncio.to_thread(each.start) for each in self.commerce))

    async def close(self) -> None:
        """Leave nothing running."""
        await self.remote.aclose()
        for each in (*self.commerce, self.fake):
            await asyncio.to_thread(each.kill)

    async def race(self, payments: int, kills: int) -> None:
        """Have so many plays, and kill so many processes meanwhile."""
        begun = 0
        every = payments // (kills + 1)
        changed = asyncio.Condition()

        async def work() -> None:
            nonlocal begun
            while begun < payments:
                begun += 1
                async with changed:
                    changed.notify_all()
                await self.crowd.play()

        async def kill() -> None:
            for number in range(1, kills + 1):
                async with changed:
                    await changed.wait_for(lambda due=number * every: begun >= due)  # type: ignore[misc]
                victim: RestartableServer = self.fake if number % 2 else self.rng.choice(self.commerce)
                await self._note_felt()
                await asyncio.to_thread(victim.kill)
                await asyncio.to_thread(victim.start)

        async with asyncio.TaskGroup() as group:
            group.create_task(kill())
            for _ in range(WORKERS):
                group.create_task(work())

    async def _note_felt(self) -> None:
        """Add what faults struck; a gateway that is started counts anew."""
        now = Counter((await asyncio.to_thread(self.fake.read_book))["felt"])
        self.felt.update({name: max(0, count - self._felt_before[name]) for name, count in now.items()})
        self._felt_before = now

    async def heal(self) -> None:
        """No faults from now on; what was asked for has met them, but for what they keep away from the gateway."""
        database = await asyncpg.connect(self._url)
        for _ in range(_LOOKS_MAX):
            if not await database.fetchval(_UNCALLED):
                break
            await asyncio.sleep(_LOOK_S)
        await database.close()
        await self._note_felt()
        await asyncio.to_thread(self.fake.have_faults)

    async def audit(self) -> tuple[dict[str, int], list[str]]:
        """The counts now, and the first of what is wrong."""
        database = await asyncpg.connect(self._url)
        await database.set_builtin_type_codec("uuid", schema="pg_catalog", codec_name="bytea", format="binary")
        try:
            found = GatewayAudit(database, await asyncio.to_thread(self.fake.read_book), NAME, TENANT)
            return await found.count(), found.said
        finally:
            await database.close()

    async def rest(self) -> tuple[dict[str, int], list[str], float]:
        """The counts when all are 0, or after HEAL_S_MAX; and after how long."""
        healed_s = time.monotonic()
        while True:
            counts, said = await self.audit()
            took_s = time.monotonic() - healed_s
            if took_s > HEAL_S_MAX or (took_s > _REST_S_MIN and not any(counts.values())):
                return counts, said, took_s
            await asyncio.sleep(_LOOK_S)


async def run_gateway(
    payments: int, kills: int, seed: int, *, faults: Sequence[str], folder: Path, postgres_url: str, processes: int = 2
) -> tuple[dict[str, Any], list[str]]:
    """A run; what came of it, and the first of what is wrong."""
    begun_s = time.monotonic()
    run = GatewayRun(folder, postgres_url, seed, processes)
    try:
        await run.open()
        chances = {name: _CHANCES.get(name, _CHANCE) for name in faults}
        await asyncio.to_thread(lambda: run.fake.have_faults(**chances))
        await run.race(payments, kills)
        await run.heal()
        counts, said, rest_s = await run.rest()
        book = await asyncio.to_thread(run.fake.read_book)
    finally:
        await run.close()
    summary = {
        "payments": payments,
        "kills": kills,
        "seed": seed,
        "objects": len(book["objects"]),
        "faults_felt": run.felt.total(),
        "forged_taken": book["webhooks"]["forged_taken"],
        "refused": run.crowd.refused,
        "repeated": run.remote.repeated,
        "rest_s": round(rest_s, 1),
        "seconds": round(time.monotonic() - begun_s),
        **counts,
    }
    return summary, said


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.adversity.gateway", description=__doc__)
    parser.add_argument("--payments", type=int, default=20_000)
    parser.add_argument("--faults", default="all", help="all, or names with commas")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    chosen = parser.parse_args()
    faults = list(NAMES) if chosen.faults == "all" else chosen.faults.split(",")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with (
        tempfile.TemporaryDirectory(prefix="tchat-gateway-") as folder,
        EmbeddedPostgres(Path(folder) / "books") as postgres,
    ):
        running = run_gateway(
            chosen.payments,
            chosen.kills,
            chosen.seed,
            faults=faults,
            folder=Path(folder),
            postgres_url=postgres.url,
        )
        summary, said = asyncio.run(running)
    print(*said, sep="\n", file=sys.stderr)
    print(json.dumps(summary))
    return 1 if any(summary[name] for name in (*COUNTS, "forged_taken")) else 0


if __name__ == "__main__":
    sys.exit(main())
