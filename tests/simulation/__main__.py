"""`python -m tests.simulation --seeds N [--seed S]`: runs seeds, and shows the trace of the first that fails."""

from __future__ import annotations

import argparse
import sys
import time

from tests.simulation.run import run_seed


def main() -> int:
    """1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2_000, help="how many seeds to run")
    parser.add_argument("--seed", type=int, help="run this seed alone, with its trace")
    parser.add_argument("--first", type=int, default=0, help="the first of the seeds")
    options = parser.parse_args()
    if options.seed is not None:
        return show(options.seed)
    began = time.monotonic()
    for count in range(options.seeds):
        seed = options.first + count
        if run_seed(seed).failed:
            return show(seed)
    print(f"{options.seeds} seeds from {options.first} on: no promise was broken ({time.monotonic() - began:.0f} s)")
    return 0


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
