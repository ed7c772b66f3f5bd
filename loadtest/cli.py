"""`tchat loadtest`: runs a scenario, and says what came out of it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import resource
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import uvloop

from loadtest import scenario as scenarios
from loadtest.issuer import Issuer
from loadtest.lean_client import LoadError
from loadtest.own_server import UNBOUND, OwnServer, merge
from loadtest.run import Run
from loadtest.run_result import METRICS, RunResult, Sample
from loadtest.scenario import Scenario, ScenarioError
from loadtest.target import RemoteServer, Target

EXIT_NOT_GOOD = 1
EXIT_CANNOT_START = 2

_RUN = """\
Put the load of a scenario on a server: on one of its own, with an embedded PostgreSQL and an empty database, or on the
one at --url, which must be configured to accept tokens that --issuer-key signs (docs/loadtest.md).
"""
_FILES_BESIDE = 200
"""Open files of a process beside its connections."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns 0 when all is good, 1 when a check or threshold is not, 2 when there is no result."""
    chosen = _parser().parse_args(arguments)
    try:
        code: int = chosen.run(chosen)
    except (LoadError, ScenarioError, OSError) as error:
        sys.stderr.write(f"tchat loadtest: {error}\n")
        return EXIT_CANNOT_START
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tchat loadtest", description="Puts load on a server, and checks it.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    listing = commands.add_parser("list", help="the scenarios that come with the product")
    listing.set_defaults(run=_list)
    run = commands.add_parser("run", help="run a scenario", description=_RUN)
    run.add_argument("scenario", metavar="SCENARIO", help="a name of `tchat loadtest list`, or a .toml file")
    run.add_argument("--json", type=Path, metavar="FILE", help="write the result there, too")
    run.add_argument("--url", help="the server; without it the run starts one of its own")
    run.add_argument("--issuer-key", type=Path, metavar="FILE", help="private key (PEM) that signs tokens for --url")
    run.add_argument("--workers", type=int, metavar="N", help="processes that make the load")
    run.add_argument("--people", type=int, metavar="N", help="of all workers together")
    run.add_argument("--seconds", type=float, metavar="S", help="of the measured part")
    run.add_argument("--pin", action="store_true", help="the server on the first half of the cores, load on the others")
    run.set_defaults(run=_run)
    return parser


def _list(_chosen: argparse.Namespace) -> int:
    names = scenarios.list_names()
    width = max(map(len, names))
    sys.stdout.writelines(f"{name:{width}}  {scenarios.load(name).about}\n" for name in names)
    return 0


def _run(chosen: argparse.Namespace) -> int:
    scenario = _changed(scenarios.load(chosen.scenario), chosen)
    _raise_file_limit(scenario, own_server=not chosen.url)
    server_cores, load_cores = _split_cores() if chosen.pin else ((), ())
    with _target(scenario, chosen, server_cores) as target:
        _pin(load_cores)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            result = runner.run(Run(scenario, target, Lines()).perform())
    if chosen.json:
        chosen.json.write_bytes(msgspec.json.format(msgspec.json.encode(result)) + b"\n")
    sys.stdout.write(as_text(result))
    return 0 if result.good else EXIT_NOT_GOOD


def _changed(scenario: Scenario, chosen: argparse.Namespace) -> Scenario:
    changes = {name: getattr(chosen, name) for name in ("workers", "people", "seconds")}
    changed = msgspec.to_builtins(scenario) | {name: value for name, value in changes.items() if value is not None}
    try:
        return msgspec.convert(changed, Scenario)
    except msgspec.ValidationError as error:
        raise ScenarioError(str(error)) from None


@contextlib.contextmanager
def _target(scenario: Scenario, chosen: argparse.Namespace, cores: Sequence[int]) -> Iterator[Target]:
    if chosen.url:
        yield RemoteServer(chosen.url, Issuer.read(chosen.issuer_key) if chosen.issuer_key else Issuer())
        return
    _pin(cores)
    settings = merge(UNBOUND, scenario.server)
    with tempfile.TemporaryDirectory(prefix="tchat-loadtest-") as folder, OwnServer(Path(folder), settings) as server:
        yield server


def _split_cores() -> tuple[Sequence[int], Sequence[int]]:
    if not hasattr(os, "sched_setaffinity"):
        raise LoadError("This system cannot pin processes to cores: leave out --pin.")
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise LoadError("There is only one core: leave out --pin.")
    half = len(cores) // 2
    return cores[:half], cores[half:]


def _pin(cores: Sequence[int]) -> None:
    """Pin this process and those that it starts from now on; no cores: as they are."""
    if cores:
        os.sched_setaffinity(0, cores)


def _raise_file_limit(scenario: Scenario, *, own_server: bool) -> None:
    """Each connection is an open file of a worker, and of the server; raises LoadError when too few are allowed."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if -(-scenario.people // scenario.workers) + _FILES_BESIDE > hard:
        raise LoadError(f"A worker may open {hard:,} files, too few for its people: use more --workers.")
    servers = int(scenario.server.get("server", {}).get("workers", 1)) if own_server else 0
    if servers and scenario.people // servers + _FILES_BESIDE > hard:
        raise LoadError(f"The server may open {hard:,} files, too few for these people: raise that (`ulimit -n`).")


class Lines:
    """Tells of a run on standard error, a line for each part."""

    def phase(self, name: str, total_s: float | None) -> None:
        sys.stderr.write(f"{name}{f' ({total_s:g} s)' if total_s else ''}\n")
        sys.stderr.flush()

    def show(self, sample: Sample) -> None:
        """Not here."""


def as_text(result: RunResult) -> str:
    """The metrics that the result has, the checks, and the verdict."""
    values = {name: metric(result) for name, metric in METRICS.items()}
    lines = [f"{name:26} {value:14,.2f}" for name, value in values.items() if value]
    checks = result.checks
    lines += [f"{name:26} {getattr(checks, name):14,}" for name in checks.__struct_fields__ if name != "first"]
    lines += [f"first: {checks.first}"] if checks.first else []
    lines += [f"the load was the bottleneck: {result.bottleneck}"] if result.bottleneck else []
    lines += [f"{each.metric} is {each.value}" for each in result.checked if not each.held]
    return "\n".join([*lines, "good" if result.good else "NOT GOOD", ""])
