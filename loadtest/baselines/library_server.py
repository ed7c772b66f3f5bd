"""Runs a minimal server of the `websockets` library as a process, which prints its URL as `tchat serve` does."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence

import uvloop
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from loadtest.processes import allow_all_files
from protocol.codec import MSGPACK

_BACKLOG = 4096

Handler = Callable[[ServerConnection], Awaitable[None]]


def run(handle: Handler, about: str, arguments: Sequence[str] | None = None) -> int:
    """Serve on loopback until SIGTERM or SIGINT; `handle` has a connection from its handshake to its end."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--port", type=int, default=0, help="0: the kernel chooses a free one (default)")
    chosen = parser.parse_args(arguments)
    allow_all_files()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(handle, chosen.port))
    return 0


async def _serve(handle: Handler, port: int) -> None:
    """As the library is used, but without compression and keepalive pings, which tchat has not either."""
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with serve(
        handle,
        "127.0.0.1",
        port,
        subprotocols=[Subprotocol(MSGPACK.subprotocol)],
        compression=None,
        ping_interval=None,
        close_timeout=1,
        backlog=_BACKLOG,
    ) as server:
        where = next(iter(server.sockets)).getsockname()
        sys.stdout.write(f"a baseline listens on http://127.0.0.1:{where[1]}\n")
        sys.stdout.flush()
        await ended.wait()
