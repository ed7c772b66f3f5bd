"""How far a run is, on standard error: a live block in a terminal, elsewhere one line for each phase.

No thread draws it: the runner shows a sample each second, and that draws.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from loadtest.run_result import Sample
from loadtest.sample_rates import rates_between

_MIB = 1024 * 1024


class RunProgress:
    """The progress of one run. `clock` gives seconds that only grow."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        console = Console(file=stream, highlight=False)
        self._console = console
        self._clock = clock
        self._phase, self._ends_at = "", 0.0
        self._before: Sample | None = None
        self._latest: Sample | None = None
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def phase(self, name: str, total_s: float | None) -> None:
        """A phase begins; it takes `total_s`, or nobody knows how long."""
        self._phase, self._ends_at = name, self._clock() + total_s if total_s else 0.0
        if self._live is None:
            self._console.print(Text(f"{name} ({total_s:,.0f} s)" if total_s else name), soft_wrap=True)
        else:
            self._live.start()
            self._draw(self._live)

    def show(self, sample: Sample) -> None:
        """A look at the run; rates are those since the look before."""
        self._before, self._latest = self._latest, sample
        if self._live is not None:
            self._draw(self._live)

    def close(self) -> None:
        """The run is over: remove the live block."""
        if self._live is not None:
            self._live.stop()

    def _draw(self, live: Live) -> None:
        table = Table(box=None, show_header=False, pad_edge=False)
        left_s = self._ends_at - self._clock()
        table.add_row("phase", Text(f"{self._phase}, {max(left_s, 0):.0f} s left" if self._ends_at else self._phase))
        if self._latest is not None:
            for words, value in describe(self._before, self._latest):
                table.add_row(words, Text(value))
        live.update(table, refresh=True)


def describe(before: Sample | None, now: Sample) -> list[tuple[str, str]]:
    """What to show of a sample, in words: its totals, and its rates since the one before."""
    lines = [("connected", f"{now.connected:,}")]
    if before is not None and (rates := rates_between(before, now)) is not None:
        cpu = f"tchat {rates.tchat_cores:.0%}, PostgreSQL {rates.postgres_cores:.0%}"
        lines += [
            ("acked", f"{rates.acked_per_s:,.0f} each second"),
            ("delivered", f"{rates.delivered_per_s:,.0f} each second"),
            ("CPU", f"{cpu}, busiest worker {rates.worker_cores:.0%} of a core"),
        ]
    if now.p50_ms is not None and now.p99_ms is not None:
        lines.append(("latency", f"half within {now.p50_ms:.1f} ms, 99 % within {now.p99_ms:.1f} ms"))
    memory = f"tchat {now.resident_bytes / _MIB:,.0f} MiB, PostgreSQL {now.postgres_bytes / _MIB:,.0f} MiB"
    return [*lines, ("memory", memory)]
