"""`python -m tests.storage.cql.measure`: what the archive costs this process, and how long its reads take.

Starts a Cassandra of its own. A line of JSON for each measurement: writes of rows of 400 bytes, some dialogs with some
rows each, in microseconds of this process's CPU per row; then reads, warm, in milliseconds.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop

from protocol.ids import new_id
from storage.cql.archive import CqlArchive
from storage.cql.driver import CqlServer
from storage.cql.migrate import migrate
from tests.engines.cassandra_server import CassandraServer
from tests.engines.server_process import HOST
from tests.support.rows import posted

ROUNDS = 7
READS = 500
WRITE_ROWS = 2_000
"""Rows of one call."""
TEXT = "x" * 370


async def measure(server: CqlServer) -> None:
    """Print one line for each measurement."""
    archive = CqlArchive(server, read_timeout_s=30.0, write_timeout_s=30.0)
    await archive.read_tags(new_id(), 1, 1)  # connects
    for dialogs, rows in ((10_000, 1), (100, 100)):
        costs = sorted([await cost_of_writes(archive, dialogs, rows) for _ in range(ROUNDS)])
        middle = costs[ROUNDS // 2]
        show({"dialogs": dialogs, "rows_each": rows, "us_per_row": middle, "rows_per_cpu_s": 1e6 / middle})
    dialog = new_id()
    await archive.write([posted(dialog, seq, TEXT) for seq in range(1, 20_001)])
    draw = random.Random(1)

    async def read_page() -> None:
        await read(archive, dialog, draw.randrange(1, 19_000), 50)

    async def read_many() -> None:
        await read(archive, dialog, draw.randrange(1, 19_000), 1_000)

    for name, action in (("page of 50", read_page), ("1,000 rows", read_many)):
        await latencies(action)  # warms up
        times = await latencies(action)
        show({"read": name, "p50_ms": times[len(times) // 2], "p99_ms": times[len(times) * 99 // 100]})
    await archive.close()


async def cost_of_writes(archive: CqlArchive, dialogs: int, rows: int) -> float:
    """Microseconds of this process's CPU per row."""
    ids = [new_id() for _ in range(dialogs)]
    made = [posted(dialog, seq, TEXT) for seq in range(1, rows + 1) for dialog in ids]
    began = time.process_time()
    for start in range(0, len(made), WRITE_ROWS):
        await archive.write(made[start : start + WRITE_ROWS])
    return (time.process_time() - began) / len(made) * 1e6


async def read(archive: CqlArchive, dialog: bytes, first: int, count: int) -> None:
    """Read so many rows, page by page."""
    got = 0
    while got < count:
        page = await archive.read_range(dialog, first + got, first + count - 1, limit=count, newest_first=False)
        got += len(page)


async def latencies(action: Callable[[], Awaitable[None]]) -> list[float]:
    """Milliseconds, sorted."""
    times = []
    for _ in range(READS):
        began = time.perf_counter()
        await action()
        times.append((time.perf_counter() - began) * 1e3)
    return sorted(times)


def show(result: dict[str, str | float]) -> None:
    """One line."""
    rounded = {key: round(each, 1) if isinstance(each, float) else each for key, each in result.items()}
    sys.stdout.write(f"{json.dumps(rounded)}\n")


def main() -> None:
    """Start a Cassandra, measure, and end it."""
    with tempfile.TemporaryDirectory(prefix="tchat-archive-") as folder:
        cassandra = CassandraServer(Path(folder))
        try:
            cassandra.start()
            server = CqlServer((HOST,), cassandra.port, "tchat")
            migrate(server, lambda _name: None)
            uvloop.run(measure(server))
        finally:
            cassandra.kill()


if __name__ == "__main__":
    main()
