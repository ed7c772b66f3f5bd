"""A worker as its parent sees it: one life after another, each a fresh interpreter, and what it answers.

Nothing waits for a worker longer than `ANSWER_S`, so one that stands still holds up neither the private port nor the
end of the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple

import msgspec

from server.gateway.shared_counts import SharedCounts
from server.node.worker import WorkerServes, WorkerStart

ANSWER_S = 2.0


class WorkerAnswer(NamedTuple):
    """Of a worker's private port."""

    status: int
    body: bytes


class WorkerProcess:
    """The worker of one number."""

    def __init__(self, start: WorkerStart, counts: SharedCounts) -> None:
        """`counts` is of the worker's own column."""
        self.name = start.name
        self.number = start.number
        self.serves: WorkerServes | None = None
        """None while it starts, or does not run."""
        self.has_served = asyncio.Event()
        self.silences = 0
        """Times that it gave no answer in time."""
        self._start = start
        self._counts = counts
        self._process: asyncio.subprocess.Process | None = None
        self._ending = False

    async def live(self) -> int:
        """Begin a life, and return its exit code when it has ended; cancelled, kill it."""
        self._counts.clear()
        process = self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "server.node.worker"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            pass_fds=[self._start.counts_fd],
            start_new_session=True,  # a terminal's Ctrl-C is for the parent
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)},
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            if self._ending:
                process.terminate()
            process.stdin.write(self._start.encode())
            if line := await process.stdout.readline():
                self.serves = msgspec.json.decode(line, type=WorkerServes)
                self.has_served.set()
            return await process.wait()
        finally:
            self.serves = self._process = None
            if process.returncode is None:
                process.kill()
                await process.wait()

    def terminate(self) -> None:
        """Ask it to drain and end, for good."""
        self._ending = True
        self._send(lambda process: process.terminate())

    def kill(self) -> None:
        """End it at once."""
        self._send(lambda process: process.kill())

    async def ask(self, target: str) -> WorkerAnswer | None:
        """What its private port answers to a path and query; None if it does not serve, or not within `ANSWER_S`.

        A worker that resets the connection is alive: so it does when some other user of the machine floods that port.
        """
        if self.serves is None:
            return None
        try:
            async with asyncio.timeout(ANSWER_S):
                return await _get(self.serves.admin_port, target)
        except (ConnectionResetError, BrokenPipeError, ValueError):
            return WorkerAnswer(
                HTTPStatus.SERVICE_UNAVAILABLE, b"not ready: its private port has too many connections\n"
            )
        except OSError:  # a time-out, too
            self.silences += 1
            return None

    def _send(self, how: Callable[[asyncio.subprocess.Process], None]) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                how(self._process)


async def _get(port: int, target: str) -> WorkerAnswer:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET {target} HTTP/1.1\r\nHost: worker\r\nConnection: close\r\n\r\n".encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        return WorkerAnswer(int(head[len("HTTP/1.1 ") :][:3]), body)
    finally:
        writer.close()
