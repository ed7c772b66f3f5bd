"""Seeds that run in a process of their own, beside the other tests. Nothing of a seed depends on where it runs.

Invariant: the process ends soon after who started it, also after a kill: then nobody reads its next line.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
HUNDRED = 100


class SeedsAhead:
    """Runs a hundred seeds from each of `firsts` on, in this order, from now on."""

    def __init__(self, firsts: Sequence[int]) -> None:
        self._broken: dict[int, dict[str, str]] = {}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.simulation", "--hundreds", *map(str, firsts)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )

    def broken_from(self, first: int) -> dict[str, str]:
        """Wait for this hundred; the seeds that broke a promise, and how."""
        assert self._process.stdout is not None
        while first not in self._broken:
            line = self._process.stdout.readline()
            assert line, "the process that runs the seeds has ended"
            at, broken = json.loads(line)
            self._broken[at] = broken
        return self._broken[first]

    def end(self) -> None:
        """End it, whatever it has still to do."""
        self._process.kill()
        self._process.communicate()
