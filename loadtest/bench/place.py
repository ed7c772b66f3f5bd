"""Where a run takes place: a fresh server or baseline, the cores it may use, and what it has before the run begins."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from loadtest.bench.bench_rows import TCHAT, BenchRun
from loadtest.bench.journal_filler import fill_journal
from loadtest.issuer import Issuer
from loadtest.lean_client import LoadError
from loadtest.own_server import HOST, UNBOUND, OwnServer, free_port, merge
from loadtest.processes import end_process, find_cores, find_redis, staying_on
from loadtest.target import RemoteServer, Target

_STOP_TIMEOUT_S = 10.0
_MANY = {"gateway": {"connections_max": 1_000_000}}


def share_cores(run: BenchRun) -> tuple[list[int], list[int]]:
    """The cores of the server and those of the load; each has all where they cannot be kept apart, or shall not be."""
    cores = find_cores()
    return (cores[:1], cores[1:]) if run.apart and len(cores) > 1 else (cores, cores)


@contextlib.contextmanager
def started(run: BenchRun, folder: Path, cores: Sequence[int]) -> Iterator[Target]:
    """A server for one run, on these cores, gone with the block; raises LoadError."""
    with contextlib.ExitStack() as ending:
        with staying_on(cores):
            if run.server == TCHAT:
                target: Target = ending.enter_context(_own_server(run, folder, ending))
            else:
                target = RemoteServer(ending.enter_context(_baseline(run.server)), Issuer())
        if run.journal_rows:
            fill_journal(folder / "data", run.journal_rows)
        yield target


def _own_server(run: BenchRun, folder: Path, ending: contextlib.ExitStack) -> OwnServer:
    settings = merge(merge(UNBOUND, _MANY), run.settings)
    environment = {}
    if run.redis:
        environment["TCHAT__CLUSTER__REDIS_URLS"] = ending.enter_context(_redis(folder))
    return OwnServer(folder, settings, environment)


@contextlib.contextmanager
def _baseline(name: str) -> Iterator[str]:
    """The URL of a minimal server."""
    command = [sys.executable, "-m", f"loadtest.baselines.{name}", "--port", "0"]
    process = psutil.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        found = re.search(r"http://[^/ ]*:\d+", process.stdout.readline())
        if not found:
            raise LoadError(f"The baseline {name} did not start.")
        yield found[0]
    finally:
        end_process(process, _STOP_TIMEOUT_S)


@contextlib.contextmanager
def _redis(folder: Path) -> Iterator[str]:
    """The URL of a Redis in memory."""
    program, port = find_redis(), free_port()
    if program is None:
        raise LoadError("Several workers need Redis: install redis-server (Debian, Ubuntu) or redis (Homebrew).")
    options = ["--port", str(port), "--bind", HOST, "--dir", str(folder), "--save", ""]
    process = psutil.Popen([program, *options], stdout=subprocess.PIPE, text=True)
    try:
        if not any("Ready to accept connections" in line for line in process.stdout):
            raise LoadError("Redis did not start.")
        yield f"redis://{HOST}:{port}"
    finally:
        end_process(process, _STOP_TIMEOUT_S)
