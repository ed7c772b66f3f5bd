"""Node processes that share a database: killed, stopped for longer than their lease, and woken. No Redis."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from protocol.bodies import TimelineEvent
from protocol.close_codes import CloseCode
from protocol.commands import Heartbeat, Send
from protocol.dialog_types import DialogType
from protocol.events import CaughtUp, HeartbeatReply
from protocol.replies import Acked, Synced
from server.clock import SystemClock
from server.identity.signing_keys import SigningKeys, new_pem
from server.identity.tokens import Tokens
from server.identity.vault import new_key
from tests.adversity.restart_server import find_port, start_node
from tests.support.harness import Wire, issue_token, live_on
from tests.support.world import Person, World

pytestmark = pytest.mark.anyio

LEASE_S = 2.0


class NodeProcess:
    """`tchat serve` on a database that others serve, too."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, tokens: Tokens) -> None:
        self.process = process
        self._port = port
        self._tokens = tokens

    @contextlib.asynccontextmanager
    async def live(self, person: Person, position: str = "") -> AsyncIterator[Wire]:
        """A websocket that has synced; what catch-up brought is in `wire.caught_up`."""
        async with live_on(self._port, issue_token(self._tokens, person), position) as wire:
            yield wire

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)


@pytest.fixture
async def three(database_url: str, tmp_path: Path) -> AsyncIterator[list[NodeProcess]]:
    """Three nodes on the test's database."""
    pem = new_pem()
    key = tmp_path / "signing_key"
    key.write_text(pem)
    tokens = Tokens(SigningKeys.from_pem(pem), SystemClock(), issuer="tchat", audience="tchat", ttl_s=3600)
    environment = {
        **os.environ,
        "TCHAT__SERVER__PORT": "0",
        "TCHAT__SERVER__ADMIN_PORT": "0",
        "TCHAT__STORAGE__POSTGRES_URL": database_url,
        "TCHAT__CLUSTER__REDIS_URLS": "redis://127.0.0.1:1",
        "TCHAT__CLUSTER__LEASE_S": str(LEASE_S),
        "TCHAT__IDENTITY__SIGNING_KEY_FILE": str(key),
        "TCHAT__IDENTITY__PHONE_KEY": new_key(),
    }
    nodes: list[NodeProcess] = []
    try:
        for number in range(3):
            log, data_dir = tmp_path / f"{number}.log", str(tmp_path / str(number))
            process = await start_node(environment | {"TCHAT__SERVER__DATA_DIR": data_dir}, log)
            assert process.stdout is not None
            async with asyncio.timeout(60):
                while (port := find_port(await process.stdout.readline())) is None:
                    assert process.returncode is None, log.read_text()
            nodes.append(NodeProcess(process, port, tokens))
        yield nodes
    finally:
        for node in nodes:
            if node.process.returncode is None:
                node.process.kill()
                await node.process.wait()


async def seqs_to(wire: Wire, first: int, last: int) -> list[int]:
    """The numbers that are new, as a client sees them: what a catch-up has brought may come once more, live."""
    seqs = [first - 1]
    async with asyncio.timeout(30):
        while seqs[-1] < last:
            seq = (await wire.until(TimelineEvent)).seq
            if seq > seqs[-1]:
                seqs.append(seq)
    return seqs[1:]


async def send(wire: Wire, dialog: bytes, first_n: int, count: int) -> None:
    for n in range(first_n, first_n + count):
        assert isinstance(await wire.ask(Send(n, dialog, n, b"hello")), Acked)


async def test_live_sessions_stay_contiguous_while_nodes_are_killed_and_stopped_and_woken(
    world: World, three: list[NodeProcess]
) -> None:
    one, two, node = three
    world.incarnation = await world.journal.begin_incarnation("test")  # the one before has been ended: it stood still
    ann, bo, cy = await world.people(3)
    dialog = await world.create(DialogType.GROUP, ann, bo, cy)
    async with node.live(cy) as c, two.live(bo) as b:
        async with one.live(ann) as a:
            await send(a, dialog, 100, 20)
            one.signal(signal.SIGKILL)
            with contextlib.suppress(ConnectionClosed):
                await a.until(CaughtUp)
        assert await seqs_to(c, 2, 21) == await seqs_to(b, 2, 21) == list(range(2, 22))

        await b.send(Heartbeat(0))
        position = (await b.until(HeartbeatReply)).position
        two.signal(signal.SIGSTOP)
        async with node.live(ann) as a:
            await send(a, dialog, 200, 20)
            assert await seqs_to(c, 22, 41) == list(range(22, 42))
            lives = "SELECT count(*) FROM incarnations WHERE fenced_at_ms IS NULL"
            async with asyncio.timeout(60):
                while await world.pool.fetchval(lives) > 1:
                    pass
            two.signal(signal.SIGCONT)
            assert await b.close_code() in (CloseCode.UNAVAILABLE, None, 1006)
            assert await two.process.wait() != 0
            await send(a, dialog, 300, 5)
        assert await seqs_to(c, 42, 46) == list(range(42, 47))
    async with node.live(bo, position) as b:
        assert b.caught_up[0] == Synced(2, recovered=True)
        got = [message.seq for message in b.caught_up if isinstance(message, TimelineEvent)]
        assert got == list(range(got[0], 47))
        assert got[0] <= 22
