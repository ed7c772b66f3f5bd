"""One worker of a server: a node in a process of its own, `python -m server.node.worker`, started by its parent.

What it needs comes through its standard input, as one line of JSON, for others can see arguments. When that input ends,
so has the parent, and the worker drains and ends, too. The one line that it writes to its standard output says that it
serves. Its exit code is 2 when another start would fail as well.
"""

from __future__ import annotations

import asyncio
import functools
import os
import sys
import threading
import time
from pathlib import Path

import msgspec

from server.config.setting_types import Secret
from server.config.settings import Config
from server.gateway.shared_counts import SharedCounts
from server.node import logs
from server.node.composition import Node
from server.node.identity_parts import IdentitySecrets, make_identity
from server.node.serve import run_node, stop_when_asked
from server.node.started import run_on_uvloop
from server.node.startup import explain
from server.startup_error import StartupError
from storage.numbered_files import MigrationError

CANNOT_START = 2
FAILED = 1
_START_BYTES = 65_536
_END_GRACE_S = 5.0


class WorkerStart(msgspec.Struct, frozen=True):
    """What a worker begins with."""

    config: Config
    """That of the server, but for the ports: its private one is any free one of this machine."""
    postgres_url: str
    name: str
    number: int
    counts_fd: int
    """Of the memory in which all workers count connections."""

    def encode(self) -> bytes:
        """One line, with the secrets."""
        return msgspec.json.encode(self, enc_hook=_as_text) + b"\n"


class WorkerServes(msgspec.Struct, frozen=True):
    """What a worker says when it serves."""

    admin_port: int
    incarnation: int


def main() -> int:
    """Be a worker; returns the exit code."""
    start = read_start(sys.stdin.fileno())
    config = start.config
    logs.configure(config.server.log_level, config.server.log_format, sys.stderr)
    logs.name_node(start.name)

    async def serve() -> None:
        stop = stop_when_asked()
        threading.Thread(target=_end_with_parent, args=(asyncio.get_running_loop(), stop, start), daemon=True).start()
        counts = SharedCounts(start.counts_fd, workers=config.server.workers, column=start.number)
        make = functools.partial(make_identity, config, IdentitySecrets.load(config))
        serves = _say_that_it_serves
        await run_node(config, start.postgres_url, make, stop, serves, name=start.name, counts=counts)

    try:
        run_on_uvloop(serve())
    except Exception as error:
        said = explain(error, config)
        if said is None:
            raise
        sys.stderr.write(f"tchat: {start.name}: {said}\n")
        return CANNOT_START if isinstance(error, StartupError | MigrationError) else FAILED
    return 0


def read_start(fd: int) -> WorkerStart:
    """The parent's line; the end of the pipe is not awaited, since it stays open."""
    line = b""
    while not line.endswith(b"\n"):
        part = os.read(fd, _START_BYTES)
        if not part:
            raise SystemExit(FAILED)  # the parent ended meanwhile
        line += part
    return msgspec.json.decode(line, type=WorkerStart, dec_hook=_from_text)


def _end_with_parent(loop: asyncio.AbstractEventLoop, stop: asyncio.Event, start: WorkerStart) -> None:
    """Wait for the end of the parent, in a thread: whatever the loop does, this process ends soon after."""
    os.read(sys.stdin.fileno(), 1)
    loop.call_soon_threadsafe(stop.set)
    time.sleep(start.config.server.drain_timeout_s + _END_GRACE_S)
    os._exit(FAILED)


def _say_that_it_serves(node: Node) -> None:
    serves = WorkerServes(node.admin_port, node.incarnation)
    os.write(sys.stdout.fileno(), msgspec.json.encode(serves) + b"\n")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # nobody reads more of it


def _as_text(value: object) -> str:
    return value.reveal() if isinstance(value, Secret) else str(value)


def _from_text(kind: type[Path | Secret], value: str) -> Path | Secret:
    return kind(value)


if __name__ == "__main__":
    raise SystemExit(main())
