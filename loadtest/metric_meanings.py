"""What each number of `run_result.METRICS` means, in words, and which direction is better.

Some numbers are shown and not judged: a server that uses more cores may do more work (the numbers per CPU second
judge the cost), and the slowest single message of a run says little about the next run. The server is tchat and
PostgreSQL together.
"""

from __future__ import annotations

import enum

import msgspec

from loadtest.run_result import METRICS, RunResult

LATENCIES = {
    "delivery": "from due to delivered",
    "ack": "from due to acked",
    "connect": "from the first packet to caught up",
}
_PERCENTILES = {
    "p50_ms": "half of them within",
    "p90_ms": "90 % within",
    "p99_ms": "99 % within",
    "p999_ms": "99.9 % within",
    "max_ms": "the slowest",
}


class Better(enum.Enum):
    """Which direction of a number is better."""

    HIGHER = 1
    LOWER = -1
    UNJUDGED = 0


class Meaning(msgspec.Struct, frozen=True):
    """One number: what it is, its unit, its decimals, which direction is better."""

    words: str
    unit: str
    decimals: int
    better: Better

    def as_text(self, value: float | None) -> str:
        """The value with its unit; a dash where there is none."""
        if value is None:
            return "-"
        return f"{value:,.{self.decimals}f}{self.unit and ' '}{self.unit}"


MEANINGS: dict[str, Meaning] = {
    "acked_per_s": Meaning("messages acked each second", "", 0, Better.HIGHER),
    "delivered_per_s": Meaning("deliveries each second", "", 0, Better.HIGHER),
    "connects_per_s": Meaning("connects each second", "", 0, Better.HIGHER),
    "acked_per_cpu_s": Meaning("messages acked for each CPU second of the server", "", 0, Better.HIGHER),
    "delivered_per_cpu_s": Meaning("deliveries for each CPU second of the server", "", 0, Better.HIGHER),
    "connects_per_cpu_s": Meaning("connects for each CPU second of the server", "", 0, Better.HIGHER),
    "delivered_per_tchat_cpu_s": Meaning("deliveries for each CPU second of tchat alone", "", 0, Better.HIGHER),
    "server_cores": Meaning("cores that tchat and PostgreSQL used", "", 2, Better.UNJUDGED),
    "tchat_cores": Meaning("cores that tchat used", "", 2, Better.UNJUDGED),
    "postgres_cores": Meaning("cores that PostgreSQL used", "", 2, Better.UNJUDGED),
    "worker_cores": Meaning("cores that the busiest worker of the load used", "", 2, Better.UNJUDGED),
    "bytes_per_session": Meaning("memory for each idle session", "bytes", 0, Better.LOWER),
    **{
        f"{which}_{percentile}": Meaning(
            f"{of}: {part}", "ms", 2, Better.UNJUDGED if percentile == "max_ms" else Better.LOWER
        )
        for which, of in LATENCIES.items()
        for percentile, part in _PERCENTILES.items()
    },
}


def read_numbers(result: RunResult) -> dict[str, float]:
    """The numbers that say something about this run: those of things that it did."""
    numbers = {name: read(result) for name, read in METRICS.items()}
    return {name: number for name, number in numbers.items() if number}
