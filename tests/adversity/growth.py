"""What grows with the work: `python -m tests.adversity.growth`.

Fills a PostgreSQL of its own and compares the cost of every operation at a thousand, a hundred thousand and a million
rows of a dialog, reactions to one message, members, and dialogs of one person (or as many as the server allows). Then
one person misuses the worst dialog that can be built, at the full rate that the server allows, and the latency of two
strangers is compared with that of quiet times.

Prints one JSON line for each operation, dimension and size: `ratio_to_smallest` compares blocks, and `held` says that
it is at most 1.5, or that `bound` stops the growth. The last line is about the strangers. Exits with 1 when something
did not hold. Takes some minutes.
"""

# ruff: noqa: T201 - a command prints

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from storage.embedded.cluster import EmbeddedPostgres
from storage.postgres.migrate import migrate
from tests.adversity.growth_abuse import compare_strangers
from tests.adversity.growth_stage import CAPS, Stage, compare

SIZES = (1_000, 100_000, 1_000_000)
DIMENSIONS = ("rows", "reactions", "members", "dialogs")


def sizes_of(dimension: str, sizes: tuple[int, ...]) -> list[int]:
    """The sizes of a dimension: none above its cap."""
    return sorted({min(size, CAPS.get(dimension, size)) for size in sizes})


async def measure(url: str, sizes: tuple[int, ...], times: int) -> list[dict[str, Any]]:
    """The lines about operations."""
    await migrate(url)
    stage = await Stage.open(url)
    try:
        for dimension in DIMENSIONS:
            for size in sizes_of(dimension, sizes):
                await stage.add(dimension, size)
                print(f"filled: {dimension} {size}", file=sys.stderr, flush=True)
        await stage.measure(times)
        return list(compare(stage.subjects))
    finally:
        stage.close()


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.adversity.growth", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--times", type=int, default=15, help="of each operation on each size")
    parser.add_argument("--seconds", type=float, default=20.0, help="of quiet, and of misuse")
    parser.add_argument("--only", choices=["operations", "strangers"])
    chosen = parser.parse_args()
    held = True
    with tempfile.TemporaryDirectory(prefix="tchat-growth-") as folder:
        if chosen.only != "strangers":
            with EmbeddedPostgres(Path(folder) / "operations") as postgres:
                for line in asyncio.run(measure(postgres.url, tuple(chosen.sizes), chosen.times)):
                    print(json.dumps(line), flush=True)
                    held = held and line["held"]
        if chosen.only != "operations":
            strangers = asyncio.run(compare_strangers(Path(folder), max(chosen.sizes), chosen.seconds))
            print(json.dumps(strangers), flush=True)
            held = held and strangers["held"]
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
