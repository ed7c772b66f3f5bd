"""`tchat serve`: a node as a process, from its start to SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import logging
import resource
import signal
import sys

from server.clock import SystemClock
from server.config.settings import Config
from server.node import logs
from server.node.archive_start import running_archive
from server.node.composition import Node
from server.node.identity_parts import IdentitySecrets, make_identity
from server.node.opening import MakeIdentity, cancel_and_wait, opened
from server.node.postgres_start import running_postgres

_log = logging.getLogger(__name__)

_GC_NEW_OBJECTS = 50_000


async def serve(config: Config) -> None:
    """Run a node until SIGTERM, SIGINT or SIGHUP, then drain it."""
    logs.configure(config.server.log_level, config.server.log_format, sys.stderr)
    _allow_all_files()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # SIGHUP: its terminal was closed
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        make = functools.partial(make_identity, config, IdentitySecrets.load(config))
        postgres = stack.enter_context(running_postgres(config))
        stack.push_async_callback(cancel_and_wait, asyncio.ensure_future(postgres.keep_running()))
        stopped = asyncio.ensure_future(stop.wait())
        # A start may take a minute: it waits for what the node before left running.
        opening = asyncio.ensure_future(_open(stack, config, postgres.url, make))
        await asyncio.wait({stopped, opening}, return_when=asyncio.FIRST_COMPLETED)
        if not opening.done():
            await cancel_and_wait(opening)
            return
        node, work = await opening
        logs.name_incarnation(node.incarnation)
        _collect_rarely()
        print(_banner(config, node), flush=True)  # noqa: T201 - for the person who started it
        await asyncio.wait({stopped, work}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            await work
        _log.info("draining: clients are asked to reconnect")


async def _open(
    stack: contextlib.AsyncExitStack, config: Config, url: str, make: MakeIdentity
) -> tuple[Node, asyncio.Task[None]]:
    archive = await stack.enter_async_context(running_archive(config.storage, url))
    return await stack.enter_async_context(opened(config, url, make, SystemClock(), archive))


def _collect_rarely() -> None:
    """Look for cyclic garbage after this many new objects, not 700: what a message leaves behind has no cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_NEW_OBJECTS)


def _allow_all_files() -> None:
    """Each connection is an open file: take all that the hard limit allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _banner(config: Config, node: Node) -> str:
    server = config.server
    url = f"http://{server.host}:{node.port}"
    data = (config.storage.postgres_url and "the PostgreSQL of storage.postgres_url") or str(server.data_dir)
    lines = [f"tchat listens on {url}  (API: {url}/v1/docs)", f"its data is in {data}"]
    if server.mode == "development":
        lines += [
            "Hold a first conversation, each line in a terminal of its own:",
            f"  .venv/bin/tchat chat --server {url} --phone +6591234567 --name Ann",
            f"  .venv/bin/tchat chat --server {url} --phone +6598765432 --name Bo",
            "The sign-in codes appear here. Then Ann types: /new +6598765432",
        ]
    return "\n".join(lines)
