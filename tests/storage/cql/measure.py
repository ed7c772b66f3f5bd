"""`python -m tests.storage.cql.measure`: what archiving costs, how far it stays behind, and how long its reads take.

Starts a PostgreSQL and a Cassandra of its own; rows of about 400 bytes. It takes three minutes, and says on stderr how
far it is. One line of JSON:

* `moved_per_cpu_s`: rows that the mover takes from PostgreSQL to Cassandra, per second of this process's CPU, of 10,000
  dialogs with one row each, and of 100 dialogs with 100.
* `lag`: a `tchat serve` as a process of its own archives, while this one flushes rows at a fixed rate, as a node does.
  `lag_p50_s` and `lag_max_s` are its metric, which cannot be below the second between two rounds; `moved_per_s` says
  whether it kept up, and the `cpu` of each process, in cores, what bounds it.
* `reads_ms`: pages of rows that only the archive has, as a node reads them for a client, warm: the newest 50 with what
  was done to them later, and 1,000 messages in pages.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import uvloop

from loadtest.own_server import UNBOUND, OwnServer
from loadtest.target import used_s
from protocol.bodies import TimelineEventRaw
from protocol.dialog_types import DialogType
from server.clock import SystemClock
from server.identity.signing_keys import new_pem
from server.identity.vault import new_key
from server.writing.mover import Mover
from storage.cql.archive import CqlArchive
from storage.cql.driver import CqlServer
from storage.cql.migrate import migrate as migrate_keyspace
from storage.embedded.cluster import EmbeddedPostgres
from storage.postgres.archived_timelines import ArchivedTimelines
from storage.postgres.backlog import PostgresBacklog
from storage.postgres.migrate import migrate
from tests.engines.cassandra_server import CassandraServer
from tests.engines.server_process import HOST
from tests.support.archiving import drop_rows
from tests.support.world import Person, World, message

TEXT = "x" * 370
LANES = 4
TICK_S = 0.02
_FILL = """
INSERT INTO journal (dialog_id, seq, author_id, device_id, n, tag, at_ms, messages, incarnation, flush_no, body)
SELECT d, s, d, d, s, 1, 0, s, 1, 1, convert_to(repeat('x', 400), 'UTF8')
FROM unnest($1::uuid[]) AS d, generate_series(1, $2::bigint) AS s
"""


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    rounds: int = 5
    rows: int = 10_000
    rate: int = 5_000
    seconds: float = 60.0
    dialog_rows: int = 20_000
    reads: int = 300


QUICK = Sizes(rounds=1, rows=400, rate=500, seconds=3.0, dialog_rows=2_000, reads=5)


class ArchivingNode(OwnServer):
    """A `tchat serve` that archives."""

    def __init__(self, folder: Path, database_url: str, server: CqlServer) -> None:
        environment = {
            "TCHAT__IDENTITY__SIGNING_KEY": new_pem(),
            "TCHAT__IDENTITY__PHONE_KEY": new_key(),
            "TCHAT__STORAGE__POSTGRES_URL": database_url,
            "TCHAT__STORAGE__CQL_HOSTS": json.dumps(server.hosts),
            "TCHAT__STORAGE__CQL_PORT": str(server.port),
            "TCHAT__STORAGE__CQL_KEYSPACE": server.keyspace,
        }
        super().__init__(folder, UNBOUND, environment)

    def look(self) -> tuple[float, float]:
        """The lag in seconds, and the rows that were moved."""
        metrics = self.read_metrics()
        return metrics["tchat_archive_lag_seconds"], metrics["tchat_archive_rows_total"]


async def measure(
    folder: Path, url: str, server: CqlServer, sizes: Sizes, *, engines: dict[str, int]
) -> dict[str, Any]:
    """All three measurements, on an empty database and a migrated keyspace; `engines` are the processes of these."""
    await migrate(url)
    with ArchivingNode(folder, url, server) as node:
        world = await World.open(url)
        _say(f"a node archives, while {sizes.rate} rows come each second, for {sizes.seconds:.0f} s")
        lag = await measure_lag(world, node, sizes, {"node": node.pid, "generator": os.getpid(), **engines})
        await world.close()
    world = await World.open(url)
    archive = CqlArchive(server, read_timeout_s=30.0, write_timeout_s=30.0)
    backlog = PostgresBacklog(url, statement_timeout_s=60.0)
    mover = Mover(backlog, archive, SystemClock())
    _say("what it has left is moved")
    await mover.move()
    costs = {}
    for dialogs in (sizes.rows, sizes.rows // 100):
        costs[f"{dialogs}x{sizes.rows // dialogs}"] = await measure_moving(world, mover, dialogs, sizes)
    reads = await measure_reads(world, mover, archive, sizes)
    await backlog.release()
    await archive.close()
    await world.close()
    return {"moved_per_cpu_s": costs, "lag": lag, "reads_ms": reads}


async def measure_moving(world: World, mover: Mover, dialogs: int, sizes: Sizes) -> int:
    """Rows per second of this process's CPU: the middle of the rounds."""
    rates = []
    for number in range(1, sizes.rounds + 1):
        _say(f"{sizes.rows} rows of {dialogs} dialogs are moved, {number} of {sizes.rounds}")
        ids = [random.randbytes(16) for _ in range(dialogs)]
        for at in range(0, dialogs, 100):
            await world.pool.execute(_FILL, ids[at : at + 100], sizes.rows // dialogs)
        before, began = mover.rows, time.process_time()
        await mover.move()
        rates.append((mover.rows - before) / (time.process_time() - began))
    return round(sorted(rates)[len(rates) // 2])


async def measure_lag(
    world: World, node: ArchivingNode, sizes: Sizes, pids: dict[str, int]
) -> dict[str, float | dict[str, float]]:
    """What a node that archives is behind, while rows come at a fixed rate; the first third of the time is warm-up."""
    people = await world.people(100)
    writers = [(person, await world.create(DialogType.SELF, person)) for person in people]
    began = time.monotonic()
    lanes = [asyncio.ensure_future(write(world, writers[at::LANES], sizes)) for at in range(LANES)]
    await asyncio.sleep(sizes.seconds / 3)
    used = {name: _used_s(pid) for name, pid in pids.items()}
    since, (_, moved) = time.monotonic(), await asyncio.to_thread(node.look)
    lags = []
    while not all(lane.done() for lane in lanes):
        await asyncio.sleep(0.5)
        lags.append((await asyncio.to_thread(node.look))[0])
    seconds = time.monotonic() - since
    moved = (await asyncio.to_thread(node.look))[1] - moved
    written = sum([await lane for lane in lanes])
    return {
        "rate": sizes.rate,
        "written_per_s": round(written / (since + seconds - began)),
        "moved_per_s": round(moved / seconds),
        "lag_p50_s": round(sorted(lags)[len(lags) // 2], 2),
        "lag_max_s": round(max(lags), 2),
        "cpu": {name: round((_used_s(pid) - used[name]) / seconds, 2) for name, pid in pids.items()},
    }


async def write(world: World, writers: list[tuple[Person, bytes]], sizes: Sizes) -> int:
    """Flush messages of these writers at a share of the rate; how many."""
    began = time.monotonic()
    written = 0
    turns = itertools.cycle(writers)
    while (passed := time.monotonic() - began) < sizes.seconds:
        due = int(passed * sizes.rate / LANES) - written
        if due:
            some = [next(turns) for _ in range(min(due, 100))]
            await world.flush(*(message(dialog, person, TEXT) for person, dialog in some))
            written += len(some)
        if due <= 100:
            await asyncio.sleep(TICK_S)
    return written


async def measure_reads(world: World, mover: Mover, archive: CqlArchive, sizes: Sizes) -> dict[str, dict[str, float]]:
    """Milliseconds of what a node reads of a dialog of which the journal has nothing but its end."""
    _say(f"a dialog of {sizes.dialog_rows} rows is written and moved")
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    for _ in range(sizes.dialog_rows // 100):
        await world.flush(*(message(dialog, ann, TEXT) for _ in range(100)))
    await mover.move()
    await drop_rows(world, dialog, 1, sizes.dialog_rows)
    timelines = ArchivedTimelines(world.pool, archive, timeout_s=30.0)
    me, top = bo.principal, sizes.dialog_rows - 1_000

    async def first_page() -> None:
        last = random.randrange(100, top)
        page = await timelines.read_newest(me, dialog, 1, last, limit=50)
        await timelines.read_later(me, dialog, page[0].seq, page[-1].seq, newest_first=True)
        assert len(page) == 50

    async def thousand() -> None:
        first = random.randrange(1, top)
        got: list[TimelineEventRaw] = []
        while len(got) < 1_000:
            got += await timelines.read_events(me, [(dialog, first + len(got), first + 999)], limit=1_000)

    _say(f"it is read: {4 * sizes.reads} times, half of them to warm up")
    return {"first_page": await latencies(first_page, sizes), "thousand": await latencies(thousand, sizes)}


async def latencies(action: Callable[[], Awaitable[None]], sizes: Sizes) -> dict[str, float]:
    """The middle and the 99th percentile, in milliseconds, after a warm-up."""
    times = []
    for at in range(2 * sizes.reads):
        began = time.perf_counter()
        await action()
        if at >= sizes.reads:
            times.append((time.perf_counter() - began) * 1e3)
    times.sort()
    return {"p50": round(times[len(times) // 2], 1), "p99": round(times[len(times) * 99 // 100], 1)}


def _say(what: str) -> None:
    """Progress: the whole takes minutes."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {what}\n")


def _used_s(pid: int) -> float:
    """CPU seconds of a process until now, and of its children, those that have ended included."""
    process = psutil.Process(pid)
    return sum(map(used_s, (process, *(process.children() if pid != os.getpid() else ()))))


def main() -> None:
    """Start what is needed, measure, print, and end it."""
    parser = argparse.ArgumentParser(prog="python -m tests.storage.cql.measure", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny numbers, to see that it works")
    parser.add_argument("--rate", type=int, default=Sizes.rate, help="rows per second of the lag")
    parser.add_argument("--seconds", type=float, default=Sizes.seconds, help="how long they come")
    options = parser.parse_args()
    sizes = QUICK if options.quick else Sizes(rate=options.rate, seconds=options.seconds)
    with tempfile.TemporaryDirectory(prefix="tchat-archive-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        cassandra = CassandraServer(folder / "cassandra")
        stack.callback(cassandra.kill)
        cassandra.start()
        postgres = stack.enter_context(EmbeddedPostgres(folder / "postgres", {"max_connections": "200"}))
        server = CqlServer((HOST,), cassandra.port, "tchat")
        migrate_keyspace(server, lambda _name: None)
        engines = {"postgres": postgres.pid, "cassandra": cassandra.pid}
        result = uvloop.run(measure(folder, postgres.url, server, sizes, engines=engines))
    sys.stdout.write(f"{json.dumps(result)}\n")


if __name__ == "__main__":
    main()
