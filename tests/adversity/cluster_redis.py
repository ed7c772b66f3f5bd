"""The Redis of a cluster, and what happens to it. Each fault says how much of it was felt; 0: nothing."""

from __future__ import annotations

import asyncio
import contextlib
import random
from pathlib import Path
from typing import Any

import redis.asyncio as redis

from tests.engines.redis_server import RedisServer

_AWAY_S = (0.0, 8.0)


class ClusterRedis:
    """One Redis, one life after another."""

    def __init__(self, folder: Path, rng: random.Random) -> None:
        self._server = RedisServer(folder)
        self._rng = rng
        self._restarting = asyncio.Lock()

    @property
    def port(self) -> int:
        return self._server.port

    async def start(self) -> None:
        await asyncio.to_thread(self._server.start)

    async def abandon(self) -> None:
        await asyncio.to_thread(self._server.kill)

    async def wipe(self) -> int:
        """FLUSHALL; the keys that there were."""
        keys = await self._tell("DBSIZE")
        await self._tell("FLUSHALL")
        return keys

    async def drop_subscribers(self) -> int:
        """Redis closes the connections of those who listen; how many."""
        return await self._tell("CLIENT", "KILL", "TYPE", "pubsub")

    async def restart(self) -> int:
        """Redis dies and comes back empty; the keys that there were."""
        keys = await self._tell("DBSIZE")
        async with self._restarting:
            self._forget_dump()
            await self._die_and_start()
        return keys

    async def restore(self) -> int:
        """Redis dies and comes back as it was a while ago; the keys that came back."""
        async with self._restarting:
            await self._tell("SAVE")
            await asyncio.sleep(self._rng.uniform(0.5, 2.0))
            await self._die_and_start()
            return await self._tell("DBSIZE")

    async def _die_and_start(self) -> None:
        await asyncio.to_thread(self._server.kill)
        await asyncio.sleep(self._rng.uniform(*_AWAY_S))
        await asyncio.to_thread(self._server.start)

    def _forget_dump(self) -> None:
        (self._server.folder / "dump.rdb").unlink(missing_ok=True)

    async def _tell(self, *command: str) -> int:
        """A command's answer, if it is a number; 0 while there is no Redis."""
        answer: Any = 0
        with contextlib.suppress(redis.RedisError):
            async with redis.Redis(port=self.port) as client:
                answer = await client.execute_command(*command)  # type: ignore[no-untyped-call]
        return answer if isinstance(answer, int) else 0
