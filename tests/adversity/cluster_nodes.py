"""The nodes of a cluster as processes, each with a proxy before its PostgreSQL and one before its Redis."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path

from server.identity.signing_keys import new_pem
from server.identity.vault import new_key
from tests.adversity.restart_server import NO_LIMITS, START_S_MAX, find_port, start_node
from tests.support.cutting_proxy import CuttingProxy
from tests.support.reply_cutter import ReplyCutter

LEASE_S = 3.0


def shared_settings() -> dict[str, str]:
    """What all nodes of a deployment must have alike."""
    return {
        **NO_LIMITS,
        "TCHAT__IDENTITY__SIGNING_KEY": new_pem(),
        "TCHAT__IDENTITY__PHONE_KEY": new_key(),
        "TCHAT__IDENTITY__WHO_MAY_ADD": "everybody",
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
        self, folder: Path, log: Path, url: str, settings: dict[str, str], *, moved: Callable[[], None]
    ) -> None:
        self.port = 0
        self.lives = 0
        self.paused = False
        self.postgres = ReplyCutter(url)
        self.redis = CuttingProxy()
        self._folder = folder
        self._log = log
        self._settings = settings
        self._moved = moved
        self._wanted = False
        self._process: asyncio.subprocess.Process
        self._supervisor: asyncio.Task[None] | None = None
        self._listening = asyncio.Event()

    async def open(self, redis_port: int) -> None:
        """Open the proxies, start, and return when it listens."""
        await self.postgres.open()
        await self.redis.open()
        self.redis.targets = [redis_port]
        await self.start()

    async def start(self) -> None:
        """Let it live, and return when it listens."""
        self._wanted = True
        if self._supervisor is None:
            self._supervisor = asyncio.ensure_future(self._supervise())
        async with asyncio.timeout(START_S_MAX):
            await self._listening.wait()

    def kill(self) -> None:
        """SIGKILL; the next life begins at once."""
        self._signal(signal.SIGKILL)

    def pause(self) -> None:
        """Stop it without closing anything, as a machine that hangs does."""
        self.paused = True
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self.paused = False
        self._signal(signal.SIGCONT)

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
        await self.redis.close()
        self.postgres.close()

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

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
            "TCHAT__CLUSTER__REDIS_URLS": f'["redis://127.0.0.1:{self.redis.port}"]',
        }
        self._process = await start_node(environment, self._log)
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            if (port := find_port(line)) is not None:
                self._move(port)
        self._move(0)
        await self._process.wait()

    def _move(self, port: int) -> None:
        self.port = port
        if port:
            self._listening.set()
        else:
            self._listening.clear()
        self._moved()
