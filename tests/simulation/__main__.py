"""`python -m tests.simulation --seeds N [--seed S]`: runs seeds, and shows the trace of the first that fails."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import traceback
from collections.abc import Sequence

from tests.simulation.ahead import HUNDRED
from tests.simulation.run import run_seed


def main() -> int:
    """1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2_000, help="how many seeds to run")
    parser.add_argument("--seed", type=int, help="run this seed alone, with its trace")
    parser.add_argument("--first", type=int, default=0, help="the first of the seeds")
    parser.add_argument("--hundreds", type=int, nargs="*", metavar="FIRST", help="run these hundreds, for `make test`")
    options = parser.parse_args()
    if options.hundreds is not None:
        return run_hundreds(options.hundreds)
    if options.seed is not None:
        return show(options.seed)
    began = time.monotonic()
    for count in range(options.seeds):
        seed = options.first + count
        if run_seed(seed).failed:
            return show(seed)
    print(f"{options.seeds} seeds from {options.first} on: no promise was broken ({time.monotonic() - began:.0f} s)")
    return 0


def run_hundreds(firsts: Sequence[int]) -> int:
    """Run a hundred seeds from each of these on; print a line of JSON for each hundred, as `SeedsAhead` reads it."""
    os.nice(5)  # the tests that run meanwhile come first
    for first in firsts:
        said = {seed: violations_of(seed) for seed in range(first, first + HUNDRED)}
        print(json.dumps((first, {seed: violations for seed, violations in said.items() if violations})), flush=True)
    return 0


def violations_of(seed: int) -> str:
    """How a seed broke promises, if it did; an error that nobody expected is a way."""
    try:
        return "\n".join(run_seed(seed).violations)
    except Exception:  # noqa: BLE001 - the test of its hundred says it
        return traceback.format_exc()


def show(seed: int) -> int:
    """Run a seed and print what happened."""
    outcome = run_seed(seed, traced=True)
    print(*outcome.trace, sep="\n")
    for violation in outcome.violations:
        print(f"VIOLATION {violation}")
    print(f"seed {seed}: {len(outcome.violations)} violations, healed in {outcome.heal_s:.1f} s, {outcome.digest}")
    return int(outcome.failed)


if __name__ == "__main__":
    sys.exit(main())
