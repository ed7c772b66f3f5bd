"""A server of several workers: the process that starts them, starts them again, and speaks for all of them.

Each worker is a node, a process of its own (`worker.py`), and listens on the one public port. The parent serves no
client. It has what there is once: the embedded PostgreSQL with the lock of the data folder, the keys in it, and the
private port. The schema is brought to this version before the first worker starts.

Invariants: a worker that ends is started again, after a pause that grows; one that stands still for as long as its
lease, which the other nodes end, is killed, because the system goes on giving it connections. What would fail again (a
configuration, keys, a schema) ends all at once, but only before the worker has served: what came between later, the
schema of a newer version say, harms nobody who is connected to the others. Workers outlive their parent only to drain.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any

import msgspec

from server.clock import SystemClock
from server.config.settings import Config, GatewaySettings
from server.gateway.acceptor import Acceptor
from server.gateway.shared_counts import SharedCounts, create_shared_memory
from server.node import logs
from server.node.identity_parts import IdentitySecrets
from server.node.parent_admin import parent_app
from server.node.postgres_start import running_postgres
from server.node.running_node import cancel_and_wait
from server.node.serve import show_banner, stop_when_asked
from server.node.worker import CANNOT_START, FAILED, WorkerStart
from server.node.worker_metrics import WorkerMetrics
from server.node.worker_process import ANSWER_S, WorkerProcess
from server.startup_error import StartupError
from storage.postgres.incarnations import NodeLock
from storage.postgres.migrate import migrate

_log = logging.getLogger(__name__)

_PAUSE_FIRST_S = 0.1
_PAUSE_MAX_S = 5.0
_STEADY_S = 30.0
"""A life of this length was no failed start: the next pause is short again."""
_LOOK_EVERY_S = 1.0
_MISSES_MIN = 3
_END_GRACE_S = 3.0
"""Beyond `server.drain_timeout_s`; then a worker is killed."""


async def serve_workers(config: Config) -> int:
    """Run the workers until SIGTERM, SIGINT or SIGHUP, then drain them; returns 0 if all ended well.

    Raises StartupError when a worker cannot start, and what the start of a node raises.
    """
    server = config.server
    logs.configure(server.log_level, server.log_format, sys.stderr)
    stop = stop_when_asked()
    IdentitySecrets.load(config)  # in development they are made here, once
    with contextlib.ExitStack() as stack:
        postgres = stack.enter_context(running_postgres(config))
        stopped, migrating = asyncio.ensure_future(stop.wait()), asyncio.ensure_future(_migrate(postgres.url))
        await asyncio.wait({stopped, migrating}, return_when=asyncio.FIRST_COMPLETED)
        if not migrating.done():
            await cancel_and_wait(migrating)
            return 0
        await migrating
        port = stack.enter_context(reserved_port(server.host, server.port))
        counts_fd = create_shared_memory(server.workers)
        stack.callback(os.close, counts_fd)
        workers = [
            _make_worker(config, postgres.url, port, number=number, counts_fd=counts_fd)
            for number in range(server.workers)
        ]
        parent = Parent(config, workers)
        async with _listening(config, parent), _beside(postgres.keep_running(), parent.announce(port)):
            return await parent.run(stop)


class Parent:
    """Keeps the workers running."""

    def __init__(self, config: Config, workers: list[WorkerProcess]) -> None:
        self.workers = workers
        self.metrics = WorkerMetrics()
        self.restarts = 0
        """Workers that ended without being asked to."""
        self._config = config

    async def run(self, stop: asyncio.Event) -> int:
        """Until `stop` is set, or a worker cannot start, which raises StartupError; returns the exit code."""
        stopped = asyncio.ensure_future(stop.wait())
        kept = [asyncio.ensure_future(self._keep(worker, stop)) for worker in self.workers]
        watched = [asyncio.ensure_future(self._watch(worker)) for worker in self.workers]
        await asyncio.wait({stopped, *kept}, return_when=asyncio.FIRST_COMPLETED)
        stop.set()
        for task in watched:
            await cancel_and_wait(task)
        for worker in self.workers:
            worker.terminate()
        _, late = await asyncio.wait(kept, timeout=self._config.server.drain_timeout_s + _END_GRACE_S)
        if late:
            _log.error("workers that did not end in time are killed: %d", len(late))
        for worker in self.workers:
            worker.kill()
        codes = await asyncio.gather(*kept)
        return int(any(code not in {0, -signal.SIGTERM} for code in codes))

    async def announce(self, port: int) -> None:
        """Say where the server listens, once all workers do."""
        for worker in self.workers:
            await worker.has_served.wait()
        show_banner(self._config, port)

    async def _keep(self, worker: WorkerProcess, stop: asyncio.Event) -> int:
        """Start a worker again whenever it ends; returns the exit code of its last life."""
        pause_s = _PAUSE_FIRST_S
        while True:
            began = time.monotonic()
            try:
                code = await worker.live()
            except OSError as error:  # no memory for another process, say
                _log.error("worker %s could not be started: %s", worker.name, error)
                code = FAILED
            self.metrics.end(worker.number)
            if stop.is_set():
                return code
            if code == CANNOT_START and not worker.has_served.is_set():
                raise StartupError(f"Worker {worker.name} cannot start, and has said above why.")
            if time.monotonic() - began >= _STEADY_S:
                pause_s = _PAUSE_FIRST_S
            self.restarts += 1
            _log.error("worker %s has ended with %d, and is started again in %.1f s", worker.name, code, pause_s)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await stop.wait()
                    return code
            pause_s = min(2 * pause_s, _PAUSE_MAX_S)

    async def _watch(self, worker: WorkerProcess) -> None:
        """Kill a worker that has not answered for as long as a lease."""
        misses_max = max(_MISSES_MIN, round(self._config.cluster.lease_s / ANSWER_S))
        misses = 0
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            answered = worker.serves is None or await worker.ask("/healthz") is not None
            misses = 0 if answered else misses + 1
            if misses == misses_max:
                _log.error("worker %s stands still and is killed", worker.name)
                worker.kill()


def _make_worker(config: Config, url: str, port: int, *, number: int, counts_fd: int) -> WorkerProcess:
    its_server = msgspec.structs.replace(config.server, port=port, admin_host="127.0.0.1", admin_port=0)
    start = WorkerStart(
        config=msgspec.structs.replace(config, server=its_server),
        postgres_url=url,
        name=f"{socket.gethostname()}/{number + 1}",
        number=number,
        counts_fd=counts_fd,
    )
    return WorkerProcess(start, SharedCounts(counts_fd, workers=config.server.workers, column=number))


async def _migrate(url: str) -> None:
    lock = await NodeLock.take(url, shared=True)
    try:
        await migrate(url, lambda line: _log.info("migrated: %s", line))
    finally:
        await lock.release()


@contextlib.contextmanager
def reserved_port(host: str, port: int) -> Iterator[int]:
    """The public port, kept for the workers by a socket that does not listen: for 0, one that nobody else is given.

    Raises OSError if somebody listens there: another server with workers would not be refused otherwise.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe, socket.socket(family) as kept:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            for each in (probe, kept):
                each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        probe.bind((host, port))
        port = int(probe.getsockname()[1])
        probe.close()
        kept.bind((host, port))
        yield port


@contextlib.asynccontextmanager
async def _listening(config: Config, parent: Parent) -> AsyncIterator[None]:
    """The private port of the server."""
    admin = Acceptor(GatewaySettings(), None, parent_app(parent), SystemClock())
    await admin.listen(config.server.admin_host, config.server.admin_port)
    try:
        yield
    finally:
        admin.stop_accepting()


@contextlib.asynccontextmanager
async def _beside(*works: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run these meanwhile."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            await cancel_and_wait(task)
