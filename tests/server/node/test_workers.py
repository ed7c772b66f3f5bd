"""A server of two workers, as processes: one port, one database, one private port; ended in every way."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from protocol.bodies import TimelineEvent
from protocol.close_codes import CloseCode
from protocol.commands import Create, Send
from protocol.dialog_types import DialogType, Mode
from protocol.ids import to_text
from protocol.replies import Acked, Synced
from server.clock import SystemClock
from server.config.settings import Config, ServerSettings
from server.identity.signing_keys import SigningKeys, new_pem
from server.identity.tokens import Tokens
from server.node.trace import trace
from storage.embedded.cluster import EmbeddedPostgres, kill_cluster
from tests.engines.redis_server import RedisServer
from tests.engines.server_process import ServerProcess, free_port
from tests.support.harness import Wire, issue_token, live_on
from tests.support.world import Person, World

pytestmark = pytest.mark.anyio

START_S_MAX = 60.0
CONNECTIONS_MAX = 20
READY = "".join(f"{socket.gethostname()}/{number}: ready\n" for number in (1, 2))
_SERVE = "from server.node.cli import main; raise SystemExit(main(['serve']))"


class WorkersServer:
    """`tchat serve` with two workers and an embedded PostgreSQL, one life after another."""

    def __init__(self, folder: Path, redis: RedisServer) -> None:
        self.data_dir = folder / "data"
        self.parent: ServerProcess | None = None
        self.port = 0
        self._log = folder / "log"
        self._admin_port = free_port()
        self.config = Config(server=ServerSettings(data_dir=self.data_dir, admin_port=self._admin_port))
        """As far as commands need it."""
        pem = new_pem()
        self._tokens = Tokens(SigningKeys.from_pem(pem), SystemClock(), issuer="tchat", audience="tchat", ttl_s=3600)
        self._environment = {
            **os.environ,
            "TCHAT__SERVER__WORKERS": "2",
            "TCHAT__SERVER__PORT": "0",
            "TCHAT__SERVER__ADMIN_PORT": str(self._admin_port),
            "TCHAT__SERVER__DATA_DIR": str(self.data_dir),
            "TCHAT__SERVER__DRAIN_SPREAD_S": "0.1",
            "TCHAT__CLUSTER__REDIS_URLS": redis.url,
            "TCHAT__IDENTITY__SIGNING_KEY": pem,
            "TCHAT__GATEWAY__CONNECTIONS_PER_ADDRESS_MAX": str(CONNECTIONS_MAX),
            "TCHAT__GATEWAY__CONNECTS_PER_ADDRESS_PER_S": "100000",
        }

    def start(self) -> None:
        """Return when all workers serve."""
        self.parent = ServerProcess([sys.executable, "-c", _SERVE], self._log, self._environment)
        self.parent.await_ready("listens on", START_S_MAX)
        self.port = int(re.findall(r"listens on http://[\d.]+:(\d+)", self._log.read_text())[-1])

    def end(self, how: signal.Signals) -> int:
        """Send its parent a signal, and return its exit code when it has ended."""
        assert self.parent is not None
        code = self.parent.end(how)
        self.parent = None
        return code

    @property
    def workers(self) -> list[psutil.Process]:
        """The processes of the workers."""
        assert self.parent is not None
        children = psutil.Process(self.parent.pid).children()
        return [each for each in children if "server.node.worker" in each.cmdline()]

    def worker_of(self, wire: Wire) -> psutil.Process:
        """The one that a websocket is connected to."""
        here, there = wire.socket.local_address, wire.socket.remote_address
        (found,) = (worker for worker in self.workers if (there, here) in connections_of(worker))
        return found

    @contextlib.asynccontextmanager
    async def live(self, person: Person, position: str = "") -> AsyncIterator[Wire]:
        """A websocket that has synced."""
        async with live_on(self.port, issue_token(self._tokens, person), position) as wire:
            yield wire

    @contextlib.asynccontextmanager
    async def live_elsewhere(self, person: Person, than: Wire) -> AsyncIterator[Wire]:
        """A websocket to another worker than that of `than`: the system chooses, so it takes some tries."""
        while True:
            async with self.live(person) as wire:
                if self.worker_of(wire) != self.worker_of(than):
                    yield wire
                    return

    async def ask(self, path: str) -> httpx.Response:
        """What the private port answers."""
        async with httpx.AsyncClient(trust_env=False) as client:
            return await client.get(f"http://127.0.0.1:{self._admin_port}{path}")

    async def read_metrics(self) -> dict[str, float]:
        """Those without labels, by name."""
        families = text_string_to_metric_families((await self.ask("/metrics")).text)
        return {it.name: it.value for family in families for it in family.samples if not it.labels}

    def abandon(self) -> None:
        """Leave nothing running."""
        if self.parent is not None:
            self.end(signal.SIGKILL)  # and so the workers
        kill_cluster(self.data_dir)


def connections_of(process: psutil.Process) -> list[tuple[object, object]]:
    """The two ends of each TCP connection."""
    return [(tuple(it.laddr), tuple(it.raddr)) for it in process.net_connections("tcp")]


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory, shared_redis: RedisServer) -> Iterator[WorkersServer]:
    made = WorkersServer(tmp_path_factory.mktemp("workers"), shared_redis)
    yield made
    made.abandon()


@pytest.fixture
def server(started: WorkersServer) -> WorkersServer:
    """The server of this module, started again if a test has ended it."""
    if started.parent is None:
        started.start()
    return started


@pytest.fixture
async def two(server: WorkersServer) -> AsyncIterator[list[Person]]:
    """People in its database."""
    world = await World.open(EmbeddedPostgres(server.data_dir).url)
    yield await world.people(2)
    await world.close()


async def begin_dialog(wire: Wire, other: Person) -> bytes:
    created = await wire.ask(Create(3, 1, DialogType.DIRECT, [other.principal], mode=Mode.OPEN))
    dialog: bytes = created.dialog
    return dialog


@contextlib.asynccontextmanager
async def opened(server: WorkersServer, count: int) -> AsyncIterator[list[int]]:
    """So many connections, the only ones; what each of them is answered."""
    async with asyncio.timeout(30):
        while (await server.read_metrics())["tchat_connections"]:
            pass  # those of before have not all ended
    statuses, writers = [], []
    for _ in range(count):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /v1/nothing HTTP/1.1\r\nHost: a\r\n\r\n")
        statuses.append(int((await reader.readline()).split()[1]))
        writers.append(writer)
    yield statuses
    for writer in writers:
        writer.close()


async def test_clients_are_spread_over_the_workers_and_messages_cross(server: WorkersServer, two: list[Person]) -> None:
    ann, bo = two
    async with server.live(ann) as a, server.live_elsewhere(bo, a) as b:
        dialog = await begin_dialog(a, bo)
        assert isinstance(await a.ask(Send(4, dialog, 2, b"hello")), Acked)
        async with asyncio.timeout(30):
            while (await b.until(TimelineEvent)).seq < 2:
                pass


async def test_the_private_port_speaks_for_all_workers(server: WorkersServer, two: list[Person]) -> None:
    ann, bo = two
    async with server.live(ann) as a, server.live_elsewhere(bo, a):
        dialog = await begin_dialog(a, bo)
        assert (await server.ask("/healthz")).status_code == 200
        async with asyncio.timeout(30):
            while (await server.ask("/readyz")).text != READY:
                pass  # in its first second a node is not yet known to the others
            while (metrics := await server.read_metrics())["tchat_sessions"] != 2:
                pass  # those that were tried before have not all ended
        assert metrics["tchat_workers"] == 2
        asked = "&".join(f"principal={to_text(each.principal)}" for each in two)
        here = (await server.ask(f"/connected?{asked}")).json()
        assert [len(worker["connected"]) for worker in here] == [1, 1]
        assert {worker["node"][-2:] for worker in here} == {"/1", "/2"}
        found = await asyncio.to_thread(trace, server.config, to_text(dialog), 1, None)
        assert {device.node for member in found.members for device in member.devices} == {it["node"] for it in here}


async def test_the_limit_of_an_address_holds_over_all_workers(server: WorkersServer) -> None:
    async with opened(server, 2 * CONNECTIONS_MAX) as statuses:
        here = ("127.0.0.1", server.port)
        open_ones = [sum(end == here for end, _ in connections_of(worker)) for worker in server.workers]
    assert statuses == [404] * CONNECTIONS_MAX + [429] * CONNECTIONS_MAX
    assert min(open_ones) > 0


async def test_a_worker_that_is_killed_is_started_again_and_its_clients_resume(
    server: WorkersServer, two: list[Person]
) -> None:
    ann, bo = two
    async with server.live(ann) as a:
        async with server.live_elsewhere(bo, a) as b:
            dialog = await begin_dialog(a, bo)
            await b.until(TimelineEvent)
            before = await server.read_metrics()
            server.worker_of(b).kill()
            assert await b.close_code() in (None, 1006)
        for n in range(2, 7):
            assert isinstance(await a.ask(Send(n + 2, dialog, n, b"hello")), Acked)
        async with server.live(bo, b.position) as b:
            assert b.caught_up[0] == Synced(2, recovered=True)
            seqs = [message.seq for message in b.caught_up if isinstance(message, TimelineEvent)]
            assert seqs == list(range(seqs[0], 7))
            assert seqs[0] <= 2
        async with asyncio.timeout(60):
            while (await server.ask("/readyz")).status_code != 200:
                pass
    async with opened(server, CONNECTIONS_MAX) as statuses:  # what the killed one had open does not count
        assert set(statuses) == {404}
    after = await server.read_metrics()
    assert after["tchat_worker_restarts_total"] == before["tchat_worker_restarts_total"] + 1
    assert after["tchat_pipeline_rows_total"] >= before["tchat_pipeline_rows_total"] + 5


async def test_workers_end_with_a_parent_that_is_killed_and_the_next_start_finds_nothing_in_its_way(
    server: WorkersServer, two: list[Person]
) -> None:
    workers = server.workers
    async with server.live(two[0]) as a:
        server.end(signal.SIGKILL)
        async with asyncio.timeout(START_S_MAX):
            assert await a.close_code() == CloseCode.DRAINING
    _, left = psutil.wait_procs(workers, START_S_MAX)
    assert left == []
    server.start()
    assert (await server.ask("/readyz")).status_code == 200


async def test_a_signal_to_the_parent_drains_all_workers(server: WorkersServer, two: list[Person]) -> None:
    workers = server.workers
    async with server.live(two[0]) as a, server.live_elsewhere(two[1], a) as b:
        ended = asyncio.ensure_future(asyncio.to_thread(server.end, signal.SIGTERM))
        assert await a.close_code() == await b.close_code() == CloseCode.DRAINING
    assert await ended == 0
    assert not any(worker.is_running() for worker in workers)
    assert not (server.data_dir / "postgres" / "postmaster.pid").exists()
