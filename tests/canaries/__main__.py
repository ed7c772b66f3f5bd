"""`python -m tests.canaries`: break a copy of the tree, one canary at a time, and run the test that must fail.

One line of JSON at the end: `broken`, `caught`, `survived`. A canary counts as caught only when its own test fails: an
import that breaks, a fixture that fails or a run that hangs does not count. Exit 1 when anything survived, or when a
named test fails on the tree as it is. `python -m tests.canaries PART...` tries some files of the catalogue only;
`--list` prints the table of docs/testing.md.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.canaries.breakage import ROOT, Breakage, as_markdown, load_all

_RUN_TIMEOUT_S = 300
_WORKERS = max(os.cpu_count() or 1, 1)


def main() -> int:
    """Run the canaries; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.canaries", description=__doc__)
    parser.add_argument("parts", nargs="*", help="files of tests/canaries/, without .toml; default: all")
    parser.add_argument("--list", action="store_true", help="print the table of docs/testing.md")
    arguments = parser.parse_args()
    if arguments.list:
        print(as_markdown(), end="")
        return 0
    catalogue = load_all()
    breakages = [each for part in arguments.parts or catalogue for each in catalogue[part]]
    with tempfile.TemporaryDirectory(prefix="tchat-canaries-") as folder:
        copies: queue.Queue[Path] = queue.Queue()
        for number in range(_WORKERS):
            copies.put(copy_tree(Path(folder) / str(number)))
        if not all_pass(breakages, Path(folder) / "0"):
            return 1
        survivors = try_all(breakages, copies)
    for each, why in survivors:
        print(f"survived: {each.breaks} ({each.file}; {each.caught_by}): {why}", file=sys.stderr)
    counts = {"broken": len(breakages), "caught": len(breakages) - len(survivors), "survived": len(survivors)}
    print(json.dumps(counts))
    return 1 if survivors else 0


def copy_tree(to: Path) -> Path:
    """A copy of everything that is or would be committed."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in names:
        if name and (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)
    return to


def all_pass(breakages: list[Breakage], copy: Path) -> bool:
    """Whether every named test passes on the tree as it is: otherwise its failure proves nothing."""
    tests = sorted({each.caught_by for each in breakages})
    print(f"{len(tests)} tests on the tree as it is", file=sys.stderr)
    code, output = run_tests(tests, copy, timeout_s=_RUN_TIMEOUT_S * 4)
    if code != 0:
        print(output, file=sys.stderr)
    return code == 0


def try_all(breakages: list[Breakage], copies: queue.Queue[Path]) -> list[tuple[Breakage, str]]:
    """Break and test, as many at once as there are copies; returns what survived, and how."""
    survivors: list[tuple[Breakage, str]] = []

    def in_a_copy(breakage: Breakage) -> str:
        copy = copies.get()
        try:
            return try_one(breakage, copy)
        finally:
            copies.put(copy)

    with concurrent.futures.ThreadPoolExecutor(_WORKERS) as pool:
        for number, (breakage, why) in enumerate(zip(breakages, pool.map(in_a_copy, breakages), strict=True), 1):
            print(f"{number}/{len(breakages)} {'SURVIVED' if why else 'caught'}: {breakage.breaks}", file=sys.stderr)
            if why:
                survivors.append((breakage, why))
    return survivors


def try_one(breakage: Breakage, copy: Path) -> str:
    """Break a copy, run the test, mend the copy; returns why the canary survived, or nothing."""
    whole = (copy / breakage.file).read_text(encoding="utf-8")
    breakage.apply(copy)
    try:
        code, output = run_tests([breakage.caught_by], copy, timeout_s=_RUN_TIMEOUT_S)
    finally:
        (copy / breakage.file).write_text(whole, encoding="utf-8")
    if code == 0:
        return "its test passes"
    return "" if f"FAILED {breakage.caught_by}" in output else f"its test did not run to its end:\n{output[-2000:]}"


def run_tests(tests: list[str], copy: Path, *, timeout_s: float) -> tuple[int, str]:
    """Run tests in a copy; the exit code of pytest and what it printed (-1: it hung)."""
    command = [sys.executable, "-B", "-m", "pytest", "-q", "--no-header", "--tb=line", "-p", "no:cacheprovider"]
    command += [f"--basetemp={copy}-temp", *tests]  # by itself pytest clears away what other runs have left
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    try:
        done = subprocess.run(
            command, cwd=copy, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        return -1, f"it hung for {timeout_s} s"
    return done.returncode, done.stdout + done.stderr


if __name__ == "__main__":
    sys.exit(main())
