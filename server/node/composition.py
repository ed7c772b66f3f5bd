"""The composition root: one node, put together, run, and taken down in good order.

Order of start: database, schema, incarnation, parts, ports. Order of end: no new connections, sessions drained
(in-flight sends finished, clients told to come back), the pipeline empty, receipts stored, then the database.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import logging
import resource
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Protocol, TypeAlias

import asyncpg

from protocol.codec import CODECS
from server.clock import Clock, SystemClock
from server.config.settings import Config, GatewaySettings
from server.delivery.flush_turn import FlushTurn
from server.delivery.presence import Presence
from server.delivery.receipts import Receipts
from server.delivery.registry import Registry
from server.delivery.rooms import Rooms
from server.delivery.routing import Router
from server.gateway.acceptor import Acceptor
from server.gateway.connection import Connection
from server.gateway.http_connection import ASGIApp
from server.identity.tokens import Claims, Tokens
from server.node.admin import admin_app
from server.node.metrics import Metrics
from server.node.postgres_start import running_postgres
from server.session.context import Services
from server.session.session import Session
from server.session.wheel import TimingWheel
from server.writing.horizon import Horizon
from server.writing.pipeline import Pipeline
from storage.postgres.journal import PostgresJournal
from storage.postgres.migrate import migrate
from storage.postgres.pool import open_pool
from storage.postgres.timelines import PostgresTimelines

_log = logging.getLogger(__name__)

_TICK_S = 1.0
_TURNS_TO_FORGET = 60
_RECEIPTS_INTERVAL_S = 1.0
_HORIZON_INTERVAL_S = 5.0
_GC_NEW_OBJECTS = 50_000

Pool: TypeAlias = "asyncpg.Pool[Any]"


class Identity(Protocol):
    """Who people are: what the node needs of it."""

    @property
    def tokens(self) -> Tokens:
        """Whose signature is believed."""

    @property
    def app(self) -> ASGIApp:
        """The HTTP API."""

    async def sign_out(self, claims: Claims) -> None:
        """End the sign-in of these claims."""

    async def run(self) -> None:
        """Whatever it does by the clock, for ever."""


IdentityFactory = Callable[[Pool, Clock, Pipeline, Registry], Awaitable[Identity]]


class Node:
    """One server process. `opened` gives a running one; `port` is where it listens."""

    def __init__(
        self,
        config: Config,
        clock: Clock,
        pool: Pool,
        *,
        incarnation: int,
        epoch: int,
    ) -> None:
        self._config = config
        self.clock = clock
        self.port = 0
        self.ready = False
        self.journal = PostgresJournal(pool)
        self.timelines = PostgresTimelines(pool)
        self.registry = Registry()
        self.rooms = Rooms(self.timelines, self.registry, self.spawn, rooms_max=config.rooms.rooms_max)
        self.presence = Presence(self.registry, clock)
        self.router = Router(self.registry, self.rooms, self.presence)
        self.pipeline = Pipeline(self.journal, self.router.route, config.pipeline, clock, incarnation=incarnation)
        self.receipts = Receipts(self.journal, self.registry, self.rooms)
        self.horizon = Horizon(self.journal, epoch=epoch)
        self.wheel: TimingWheel[Session] = TimingWheel(clock.monotonic(), tick_s=_TICK_S)
        self.metrics = Metrics()
        self._tasks: set[asyncio.Task[None]] = set()
        self.acceptor: Acceptor
        self._admin: Acceptor
        self._describe_metrics()

    async def open(self, identity: Identity) -> None:
        """Listen on both ports. Raises `OSError` when one is taken."""
        loop = asyncio.get_running_loop()
        services = Services(
            clock=self.clock,
            settings=self._config.sessions,
            sync=self._config.sync,
            message_bytes_max=self._config.gateway.message_bytes_max,
            tokens=identity.tokens,
            timelines=self.timelines,
            pipeline=self.pipeline,
            registry=self.registry,
            rooms=self.rooms,
            receipts=self.receipts,
            presence=self.presence,
            horizon=self.horizon,
            wheel=self.wheel,
            writes=FlushTurn(loop.call_soon),
            sign_out=identity.sign_out,
        )
        self.acceptor = Acceptor(
            self._config.gateway,
            lambda connection: Session(connection, services),
            identity.app,
            self.clock,
            subprotocols=list(CODECS),
        )
        self._admin = Acceptor(
            GatewaySettings(),
            _Nobody,
            admin_app(self.metrics.registry, lambda: self.ready),
            self.clock,
            subprotocols=(),
        )
        server = self._config.server
        try:
            await self._admin.listen(server.admin_host, server.admin_port)
            _, self.port = await self.acceptor.listen(server.host, server.port)
        except OSError:
            self._admin.stop_accepting()  # the one that could be opened
            raise
        self.ready = True

    async def run(self, identity: Identity) -> None:
        """Do what is done by the clock and by the lanes, for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.pipeline.run())
            group.create_task(self.receipts.run(_RECEIPTS_INTERVAL_S))
            told = (self.pipeline.settled, self.rooms.settled, self.receipts.settled)
            group.create_task(self.horizon.run(_HORIZON_INTERVAL_S, *told))
            group.create_task(self._tick())
            group.create_task(identity.run())

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something to its end beside everything else."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def drain(self) -> None:
        """Take no more, finish what was taken, send clients elsewhere; within `drain_timeout_s`."""
        self.ready = False
        self.acceptor.stop_accepting()
        for session in self.wheel:
            session.drain(self._config.server.drain_spread_s)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._config.server.drain_timeout_s):
                await self.pipeline.drained()
                await self.receipts.flush()
                await self.acceptor.close_http(self._config.server.drain_timeout_s)
                await self.acceptor.wait_websockets_closed()
        self.acceptor.abort_all()
        self._admin.stop_accepting()

    def tick(self) -> None:
        """Let every session whose time has come look at the clock."""
        for session in self.wheel.advance(self.clock.monotonic()):
            try:
                session.tick()
            except Exception:  # noqa: BLE001 - whatever it is, it is one session's
                _log.exception("a session could not look at the clock")
                session.connection.abort()

    async def _tick(self) -> None:
        for turn in itertools.count(1):
            await asyncio.sleep(_TICK_S)
            self.tick()
            if turn % _TURNS_TO_FORGET == 0:
                self.rooms.forget_who_left()

    def _describe_metrics(self) -> None:
        gauge, counter = self.metrics.gauge, self.metrics.counter
        gauge("sessions", "Sessions that have synced.", lambda: len(self.registry))
        gauge("connections", "Open websockets.", lambda: len(self.acceptor.connections))
        gauge("rooms", "Rosters in memory.", lambda: len(self.rooms))
        gauge("pipeline_queued_rows", "Rows that wait for a lane.", lambda: self.pipeline.queued)
        counter("pipeline_flushes", "Flushes that were answered.", lambda: self.pipeline.flushes)
        counter("pipeline_rows", "Rows that got a verdict.", lambda: self.pipeline.rows)


class _Nobody:
    """Behind a websocket on the private port, where there are none."""

    def __init__(self, connection: Connection) -> None:
        connection.abort()

    def received(self, data: bytes, text: bool) -> None:
        """Nothing is received after an abort."""

    def writable(self) -> None:
        """Nothing is written."""

    def closed(self) -> None:
        """Nothing is held."""


@contextlib.asynccontextmanager
async def opened(
    config: Config, url: str, make_identity: IdentityFactory, clock: Clock
) -> AsyncIterator[tuple[Node, asyncio.Task[None]]]:
    """A node that listens, and the task in which it works; drained and closed on leaving."""
    async with contextlib.AsyncExitStack() as stack:
        storage = config.storage
        pool = await open_pool(url, size=storage.connections_max, statement_timeout_s=storage.statement_timeout_s)
        stack.push_async_callback(_close_pool, pool)
        incarnation = await PostgresJournal(pool).begin_incarnation(socket.gethostname())
        epoch = await pool.fetchval("SELECT epoch FROM deployment")
        node = Node(config, clock, pool, incarnation=incarnation, epoch=epoch)
        await node.horizon.advance()
        identity = await make_identity(pool, clock, node.pipeline, node.registry)
        work = asyncio.ensure_future(node.run(identity))
        stack.push_async_callback(_cancelled, work)
        await node.open(identity)
        stack.push_async_callback(node.drain)
        yield node, work


async def serve(config: Config) -> None:
    """Run a node until SIGTERM, SIGINT or SIGHUP, then drain it."""
    from server.node.identity_parts import make_identity

    logging.basicConfig(level=config.server.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)  # we say ourselves what was migrated
    _allow_all_files()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # SIGHUP: its terminal was closed
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        postgres = stack.enter_context(running_postgres(config))
        await migrate(postgres.url, lambda line: _log.info("migrated to %s", line))
        stack.push_async_callback(_cancelled, asyncio.ensure_future(postgres.keep_running()))
        async with opened(config, postgres.url, make_identity(config), SystemClock()) as (node, work):
            _collect_rarely()
            print(_banner(config, node), flush=True)  # noqa: T201 - for the person who started it
            stopped = asyncio.ensure_future(stop.wait())
            await asyncio.wait({stopped, work}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                await work
            _log.info("draining: clients are told to reconnect")


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


async def _close_pool(pool: Pool) -> None:
    try:
        async with asyncio.timeout(5.0):
            await pool.close()
    except TimeoutError:
        pool.terminate()


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})
