"""Redis instances as a node uses them, connected for the length of a test."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from storage.redis.instance import RedisInstance, RedisUrl


@contextlib.asynccontextmanager
async def connected(*urls: str) -> AsyncIterator[list[RedisInstance]]:
    """Instances at these URLs, which answer."""
    instances = [RedisInstance(RedisUrl(url)) for url in urls]
    tasks = [asyncio.ensure_future(instance.run()) for instance in instances]
    try:
        for instance in instances:
            await instance.answers.wait()
        yield instances
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
