"""The nodes of a cluster as processes, each with a proxy before its PostgreSQL, its Redis and its archive.

Each fault says how much of it was felt; 0: nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

from server.identity.signing_keys import new_pem
from server.identity.vault import new_key
from tests.adversity.cluster_networks import becomes
from tests.adversity.restart_server import NO_LIMITS, START_S_MAX, find_port, start_node
from tests.adversity.trimming_node import SETTLED_FILE
from tests.engines.server_process import HOST
from tests.support.cutting_proxy import CuttingProxy
from tests.support.reply_cutter import ReplyCutter

LEASE_S = 3.0
_PAUSED_S = (0.2 * LEASE_S, 0.6 * LEASE_S)
FROZEN_S = (5.0, 40.0)
"""Longer than a lease, and mostly not by much."""
_ENDS_S_MAX = 10.0
_FLUSH_S_MAX = 5.0
_REPLY_S_MAX = 5.0


def shared_settings() -> dict[str, str]:
    """What all nodes of a deployment must have alike."""
    return {
        **NO_LIMITS,
        "TCHAT__IDENTITY__SIGNING_KEY": new_pem(),
        "TCHAT__IDENTITY__PHONE_KEY": new_key(),
        "TCHAT__IDENTITY__WHO_MAY_ADD": "everybody",
        "TCHAT__STORAGE__FAILOVER_IS_SYNCHRONOUS": "true",
        "TCHAT__SERVER__PORT": "0",
        "TCHAT__SERVER__ADMIN_PORT": "0",
        "TCHAT__SERVER__DRAIN_TIMEOUT_S": "3",
        "TCHAT__SERVER__DRAIN_SPREAD_S": "1",
        "TCHAT__CLUSTER__LEASE_S": str(LEASE_S),
    }


class ClusterNode:
    """One node with its data folder, one life after another.

    When a life ends that nobody has ended, the next begins at once. So it is with a supervisor, and with a node that
    wakes up and finds that the others have ended it. `moved` is called whenever `port` changes; it is 0 while the node
    does not listen.
    """

    def __init__(
        self,
        folder: Path,
        log: Path,
        url: str,
        settings: Mapping[str, str],
        *,
        rng: random.Random,
        moved: Callable[[], None],
    ) -> None:
        self.port = 0
        self.lives = 0
        self.paused = False
        self.postgres = ReplyCutter(url, rng)
        self.redis = CuttingProxy(rng)
        self.archive = CuttingProxy(rng)
        self._folder = folder
        self._log = log
        self._settings = settings
        self._moved = moved
        self._wanted = False
        self._process: asyncio.subprocess.Process
        self._supervisor: asyncio.Task[None] | None = None
        self._listening = asyncio.Event()
        self._ended = asyncio.Event()

    @property
    def proxies(self) -> tuple[CuttingProxy, ...]:
        """Before all that it uses."""
        return self.postgres, self.redis, self.archive

    async def open(self, redis_port: int, archive_port: int) -> None:
        """Open the proxies, start, and return when it listens."""
        for proxy in self.proxies:
            await proxy.open()
        self.redis.targets = [redis_port]
        self.archive.targets = [archive_port]
        await self.start()

    async def start(self) -> None:
        """Let it live, and return when it listens."""
        self._wanted = True
        if self._supervisor is None:
            self._supervisor = asyncio.ensure_future(self._supervise())
        async with asyncio.timeout(START_S_MAX):
            await self._listening.wait()

    def kill(self) -> bool:
        """SIGKILL; the next life begins at once. Whether there was one to end."""
        return self._signal(signal.SIGKILL)

    async def stand_still(self, seconds: float) -> bool:
        """Stop it without closing anything, as a machine that hangs does, then let it go on; whether it did."""
        if self.paused:
            return False
        self.paused = self._signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            stopped, self.paused = self.paused, False
            self._signal(signal.SIGCONT)
        return stopped

    async def ends(self, within_s: float) -> bool:
        """Whether its life ends by itself."""
        self._ended.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._ended.wait()
        return self._ended.is_set()

    async def stop(self) -> int:
        """End it politely; its exit code."""
        self._wanted = False
        self._signal(signal.SIGTERM)
        assert self._supervisor is not None
        await self._supervisor
        self._supervisor = None
        return self._process.returncode or 0

    async def abandon(self) -> None:
        """Leave nothing running."""
        self._wanted = False
        if self._supervisor is not None:
            self._signal(signal.SIGKILL)
            self._supervisor.cancel()
            await asyncio.wait({self._supervisor})
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        for proxy in self.proxies:
            await proxy.close()

    def _signal(self, number: int) -> bool:
        lives = self._process.returncode is None
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)
        return lives

    async def _supervise(self) -> None:
        while self._wanted:
            await self._live()

    async def _live(self) -> None:
        self.lives += 1
        environment = {
            **os.environ,
            **self._settings,
            "TCHAT__SERVER__DATA_DIR": str(self._folder),
            "TCHAT__STORAGE__POSTGRES_URL": self.postgres.url,
            "TCHAT__CLUSTER__REDIS_URLS": f'["redis://{HOST}:{self.redis.port}"]',
        }
        if SETTLED_FILE in environment:
            environment["TCHAT__STORAGE__CQL_PORT"] = str(self.archive.port)
            self._process = await start_node(environment, self._log, ("-m", "tests.adversity.trimming_node"))
        else:
            self._process = await start_node(environment, self._log)
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            if (port := find_port(line)) is not None:
                self._move(port)
        self._move(0)
        await self._process.wait()
        self._ended.set()

    def _move(self, port: int) -> None:
        self.port = port
        if port:
            self._listening.set()
        else:
            self._listening.clear()
        self._moved()


class Nodes(list[ClusterNode]):
    """All of them, and what happens to one that the dice choose."""

    def __init__(self, nodes: list[ClusterNode], rng: random.Random, frozen_s: tuple[float, float]) -> None:
        super().__init__(nodes)
        self._frozen_s = frozen_s
        self._rng = rng
        self._rolling = asyncio.Lock()

    def one(self) -> ClusterNode:
        """Any of them."""
        return self._rng.choice(self)

    async def kill(self) -> int:
        """SIGKILL a node; its supervisor starts it again."""
        return self.one().kill()

    async def pause(self) -> int:
        """A node stands still for a moment, less than a lease."""
        return await self.one().stand_still(self._rng.uniform(*_PAUSED_S))

    async def freeze(self) -> int:
        """A node stands still for longer than a lease: the others end it, and it finds out; whether it did."""
        node = self.one()
        await node.stand_still(self._rng.triangular(*self._frozen_s, self._frozen_s[0]))
        return await node.ends(within_s=_ENDS_S_MAX)

    async def roll(self) -> int:
        """Every node ends in good order and starts again, one after the other."""
        async with self._rolling:
            for node in self:
                await node.stop()
                await node.start()
        return len(self)

    async def lose_replies(self) -> int:
        """PostgreSQL's next answers do not reach a node; how many."""
        postgres = self.one().postgres
        before = postgres.lost
        postgres.lose_replies()
        await becomes(lambda: postgres.lost > before, within_s=_REPLY_S_MAX)
        return postgres.lost - before

    async def stop_before_publish(self) -> int:
        """A node stops after PostgreSQL has committed its flush, before anybody was told; whether there was a flush.

        It is killed, or stands still for longer than a lease: then it learns of the commit, and tells the others, when
        they have ended it.
        """
        for node in self._rng.sample(self, len(self)):
            node.redis.hold(to_client=False)
            node.postgres.keep_flushes_back()
            committed = await becomes(lambda: node.postgres.kept_back, within_s=_FLUSH_S_MAX)  # noqa: B023
            if committed and self._rng.random() < 0.5:
                node.kill()
                node.postgres.swallow()
                node.redis.swallow()
            else:
                if committed:
                    await node.stand_still(self._rng.triangular(*self._frozen_s, self._frozen_s[0]))
                node.postgres.release()
                node.redis.release()
            if committed:
                return 1
        return 0
