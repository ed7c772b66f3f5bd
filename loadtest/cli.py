"""`tchat loadtest`: runs a scenario, and says what came out of it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import uvloop

from loadtest import scenario as scenarios
from loadtest.compare import TOLERANCE_PERCENT, compare, read_side, write_comparison
from loadtest.issuer import Issuer, as_setting
from loadtest.lean_client import LoadError
from loadtest.own_server import UNBOUND, OwnServer, merge
from loadtest.plots import PlotError, check_installed
from loadtest.processes import allow_all_files, find_cores, staying_on
from loadtest.progress import RunProgress
from loadtest.result_page import as_page
from loadtest.result_table import write_table
from loadtest.run import Run
from loadtest.run_result import ResultError, check_writable, read_result
from loadtest.scenario import Scenario, ScenarioError
from loadtest.target import RemoteServer, Target

EXIT_NOT_GOOD = 1
EXIT_CANNOT_START = 2

_RUN = """\
Put the load of a scenario on a server: on one of its own, with an embedded PostgreSQL and an empty database, or on the
one at --url, which must be configured to accept tokens that --issuer-key signs (docs/loadtest.md).
"""
_KEY = """\
Write a new private key to FILE, and its public key beside it. Prints what the configuration of a server needs, so that
the people of a load test can come to it; who has FILE can be anybody there whom this issuer names.
"""
_COMPARE = """\
Compare the numbers of B with those of A; of a folder, their medians. Returns 1 if B is worse beyond the tolerance.
"""
_FILES_BESIDE = 200
"""Open files of a process beside its connections."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns 0 when all is good, 1 when it is not, 2 when there is no result."""
    chosen = _parser().parse_args(arguments)
    before = signal.signal(signal.SIGTERM, _end)
    try:
        code: int = chosen.run(chosen)
    except (LoadError, PlotError, ResultError, ScenarioError, OSError) as error:
        sys.stderr.write(f"tchat loadtest: {error}\n")
        return EXIT_CANNOT_START
    finally:
        signal.signal(signal.SIGTERM, before)
    return code


def _end(number: int, _frame: object) -> None:
    """End by way of all that must be stopped: the server and the workers."""
    sys.exit(128 + number)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tchat loadtest", description="Puts load on a server, and checks it.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    listing = commands.add_parser("list", help="the scenarios that come with the product")
    listing.set_defaults(run=_list)
    run = commands.add_parser("run", help="run a scenario", description=_RUN)
    run.add_argument("scenario", metavar="SCENARIO", help="a name of `tchat loadtest list`, or a .toml file")
    run.add_argument("--json", type=Path, metavar="FILE", help="write the result there, too")
    run.add_argument("--html", type=Path, metavar="FILE", help="write it there as a page with plots, too")
    run.add_argument("--url", help="the server; without it the run starts one of its own")
    run.add_argument("--issuer-key", type=Path, metavar="FILE", help="private key (PEM) that signs tokens for --url")
    run.add_argument("--workers", type=int, metavar="N", help="processes that make the load")
    run.add_argument("--people", type=int, metavar="N", help="of all workers together")
    run.add_argument("--seconds", type=float, metavar="S", help="of the measured part")
    run.add_argument("--pin", action="store_true", help="the server on the first half of the cores, load on the others")
    run.set_defaults(run=_run)
    key = commands.add_parser("key", help="make a key for --issuer-key", description=_KEY)
    key.add_argument("file", type=Path, metavar="FILE", help="where the private key goes")
    key.set_defaults(run=_key)
    page = commands.add_parser("page", help="write the page of a result")
    page.add_argument("result", type=Path, metavar="FILE", help="what `run --json` has written")
    page.add_argument("page", type=Path, metavar="OUT.html")
    page.set_defaults(run=_page)
    comparison = commands.add_parser("compare", help="compare two results, number by number", description=_COMPARE)
    comparison.add_argument("a", type=Path, metavar="A", help="a result, or a folder of results")
    comparison.add_argument("b", type=Path, metavar="B", help="the same")
    comparison.add_argument("--json", action="store_true", help="for a program")
    comparison.add_argument(
        "--tolerance",
        type=float,
        metavar="PERCENT",
        default=TOLERANCE_PERCENT,
        help=f"smaller changes do not count (default: {TOLERANCE_PERCENT:g})",
    )
    comparison.set_defaults(run=_compare)
    return parser


def _list(_chosen: argparse.Namespace) -> int:
    names = scenarios.list_names()
    width = max(map(len, names))
    sys.stdout.writelines(f"{name:{width}}  {scenarios.load(name).about}\n" for name in names)
    return 0


def _key(chosen: argparse.Namespace) -> int:
    sys.stdout.write(as_setting(Issuer.create(chosen.file).resolve().as_uri()))
    return 0


def _page(chosen: argparse.Namespace) -> int:
    check_writable(chosen.page)
    chosen.page.write_text(as_page(read_result(chosen.result)), encoding="utf-8")
    return 0


def _compare(chosen: argparse.Namespace) -> int:
    comparison = compare(read_side(chosen.a), read_side(chosen.b), chosen.tolerance)
    if chosen.json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(comparison)) + b"\n")
    else:
        write_comparison(comparison, sys.stdout)
    return EXIT_NOT_GOOD if comparison.worse else 0


def _run(chosen: argparse.Namespace) -> int:
    if chosen.html:
        check_installed()
    for file in filter(None, (chosen.json, chosen.html)):
        check_writable(file)
    scenario = _changed(scenarios.load(chosen.scenario), chosen)
    _raise_file_limit(scenario, own_server=not chosen.url)
    server_cores, load_cores = _split_cores() if chosen.pin else ((), ())
    with (
        _target(scenario, chosen, server_cores) as target,
        staying_on(load_cores),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        progress = RunProgress(sys.stderr)
        try:
            result = runner.run(Run(scenario, target, progress).perform())
        finally:
            progress.close()
    if chosen.json:
        chosen.json.write_bytes(msgspec.json.format(msgspec.json.encode(result)) + b"\n")
    if chosen.html:
        chosen.html.write_text(as_page(result), encoding="utf-8")
    write_table(result, sys.stdout)
    return 0 if result.good else EXIT_NOT_GOOD


def _changed(scenario: Scenario, chosen: argparse.Namespace) -> Scenario:
    options = {name: getattr(chosen, name) for name in ("workers", "people", "seconds")}
    return scenarios.change(scenario, {name: value for name, value in options.items() if value is not None})


@contextlib.contextmanager
def _target(scenario: Scenario, chosen: argparse.Namespace, cores: Sequence[int]) -> Iterator[Target]:
    if chosen.url:
        yield RemoteServer(chosen.url, Issuer.read(chosen.issuer_key) if chosen.issuer_key else Issuer())
        return
    settings = merge(UNBOUND, scenario.server)
    with contextlib.ExitStack() as ending:
        folder = ending.enter_context(tempfile.TemporaryDirectory(prefix="tchat-loadtest-"))
        with staying_on(cores):
            server = ending.enter_context(OwnServer(Path(folder), settings))
        yield server


def _split_cores() -> tuple[Sequence[int], Sequence[int]]:
    cores = find_cores()
    if not cores:
        raise LoadError("This system cannot pin processes to cores: leave out --pin.")
    if len(cores) < 2:
        raise LoadError("There is only one core: leave out --pin.")
    half = len(cores) // 2
    return cores[:half], cores[half:]


def _raise_file_limit(scenario: Scenario, *, own_server: bool) -> None:
    """Each connection is an open file of a worker, and of the server; raises LoadError when too few are allowed."""
    hard = allow_all_files()
    if -(-scenario.people // scenario.workers) + _FILES_BESIDE > hard:
        raise LoadError(f"A worker may open {hard:,} files, too few for its people: use more --workers or `ulimit -n`.")
    servers = int(scenario.server.get("server", {}).get("workers", 1)) if own_server else 0
    if servers and scenario.people // servers + _FILES_BESIDE > hard:
        raise LoadError(f"The server may open {hard:,} files, too few for these people: raise that (`ulimit -n`).")
