"""`tchat serve`: a node as a process, from its start to SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import resource
import signal
import sys
from collections.abc import Callable

from server.clock import SystemClock
from server.config.settings import Config
from server.gateway.connection_counts import ConnectionCounts
from server.node import logs
from server.node.archive_start import running_archive
from server.node.composition import Node
from server.node.garbage import GarbageSearch
from server.node.identity_parts import IdentitySecrets, make_identity
from server.node.postgres_start import running_postgres
from server.node.running_node import MakeIdentity, cancel_and_wait, opened

_log = logging.getLogger(__name__)


async def serve(config: Config) -> None:
    """Run a node until SIGTERM, SIGINT or SIGHUP, then drain it."""
    logs.configure(config.server.log_level, config.server.log_format, sys.stderr)
    stop = stop_when_asked()
    make = functools.partial(make_identity, config, IdentitySecrets.load(config))
    with running_postgres(config) as postgres:
        reviving = asyncio.ensure_future(postgres.keep_running())
        try:
            await run_node(config, postgres.url, make, stop, lambda node: show_banner(config, node.port))
        finally:
            await cancel_and_wait(reviving)


def stop_when_asked() -> asyncio.Event:
    """The event that a signal to end sets; from now on it does nothing else."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # SIGHUP: its terminal was closed
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def run_node(
    config: Config,
    url: str,
    make: MakeIdentity,
    stop: asyncio.Event,
    serves: Callable[[Node], None],
    *,
    name: str | None = None,
    counts: ConnectionCounts | None = None,
) -> None:
    """Run a node on the database at `url` until `stop` is set, then drain it; `serves` is called when it listens."""
    _allow_all_files()
    search = GarbageSearch(asyncio.get_running_loop())
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(search.end)  # the last thing: not while sessions are drained

        async def start() -> tuple[Node, asyncio.Task[None]]:
            archive = await stack.enter_async_context(running_archive(config.storage, url))
            node = opened(config, url, make, SystemClock(), archive, name=name, counts=counts)
            return await stack.enter_async_context(node)

        stopped = asyncio.ensure_future(stop.wait())
        # A start may take a minute: it waits for what the node before left running.
        opening = asyncio.ensure_future(start())
        await asyncio.wait({stopped, opening}, return_when=asyncio.FIRST_COMPLETED)
        if not opening.done():
            await cancel_and_wait(opening)
            return
        node, work = await opening
        logs.name_node(node.name, node.incarnation)
        search.begin()
        serves(node)
        await asyncio.wait({stopped, work}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            await work
        _log.info("draining: clients are asked to reconnect")


def _allow_all_files() -> None:
    """Each connection is an open file: take all that the hard limit allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def show_banner(config: Config, port: int) -> None:
    """Print where the server listens, for the person who started it."""
    server = config.server
    url = f"http://{server.host}:{port}"
    data = (config.storage.postgres_url and "the PostgreSQL of storage.postgres_url") or str(server.data_dir)
    lines = [f"tchat listens on {url}  (API: {url}/v1/docs)", f"its data is in {data}"]
    if server.mode == "development":
        lines += [
            "Hold a first conversation, each line in a terminal of its own:",
            f"  .venv/bin/tchat chat --server {url} --phone +6591234567 --name Ann",
            f"  .venv/bin/tchat chat --server {url} --phone +6598765432 --name Bo",
            "The sign-in codes appear here. Then Ann types: /new +6598765432",
        ]
    print("\n".join(lines), flush=True)  # noqa: T201 - for the person who started it
